//! One request to another program of the demo.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No request takes longer. The promise of the mesh is a wait of about a second, not for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read. The answers of the demo have a few hundred.
const BODY_LIMIT: usize = 64 * 1024;

/// Another program's service, written `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    host: String,
    port: u16,
}

impl Peer {
    /// A service of a namespace; of the program's own namespace when that is empty.
    pub(crate) fn service(service: &str, namespace: &str, port: u16) -> Peer {
        let host = if namespace.is_empty() { service.to_owned() } else { format!("{service}.{namespace}") };
        Peer { host, port }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// What a peer answered.
pub(crate) struct Answer {
    /// With which status.
    pub(crate) status: StatusCode,
    /// With which headers.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// Makes one request on a connection of its own, so that each shows what the mesh does now, and reads the answer.
///
/// # Errors
/// When there is no answer; any status is one.
pub(crate) async fn send(peer: &Peer, request: Request<Full<Bytes>>) -> Result<Answer> {
    let answer = timeout(PATIENCE, exchange(peer, request)).await;
    answer.map_err(|_| anyhow!("no answer within {} s", PATIENCE.as_secs()))?
}

async fn exchange(peer: &Peer, mut request: Request<Full<Bytes>>) -> Result<Answer> {
    let host = HeaderValue::from_str(&peer.to_string()).context("the name of the service cannot be a host")?;
    request.headers_mut().insert(HOST, host);
    let stream = TcpStream::connect((peer.host.as_str(), peer.port)).await.context("connecting")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped, and its errors are the sender's.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.context("waiting for the answer")?.into_parts();
    let body =
        Limited::new(body, BODY_LIMIT).collect().await.map_err(|error| anyhow!("reading the answer: {error}"))?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}
