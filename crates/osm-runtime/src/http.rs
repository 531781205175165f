//! A small HTTP/1.1 client for neighbours: Envoy's admin socket, the agent's state, a probe. One connection a request,
//! no redirects, no TLS; everything is bounded in time and size.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For everything, from connecting to the last byte.
    pub timeout: Duration,
    /// A longer body is an error.
    pub body_bytes: usize,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or we may not connect.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// Not an address that HTTP knows.
    #[error("not a request")]
    Request(#[source] http::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("no usable answer")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The body is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Default for Limits {
    /// Two seconds and 64 MiB: enough for the configuration dump of a proxy that knows 5,000 services.
    fn default() -> Limits {
        Limits { timeout: Duration::from_secs(2), body_bytes: 64 << 20 }
    }
}

/// `GET` from a Unix socket; `uri` is path and query.
pub async fn get_unix(socket: &Path, uri: &str, limits: Limits) -> Result<Response<Bytes>, Error> {
    request_unix(socket, Method::GET, uri, Bytes::new(), limits).await
}

/// `POST` to a Unix socket; `uri` is path and query.
pub async fn post_unix(socket: &Path, uri: &str, body: Bytes, limits: Limits) -> Result<Response<Bytes>, Error> {
    request_unix(socket, Method::POST, uri, body, limits).await
}

/// `GET` over TCP; `uri` is path and query.
pub async fn get_tcp(address: SocketAddr, uri: &str, limits: Limits) -> Result<Response<Bytes>, Error> {
    let request = request(Method::GET, uri, &address.to_string(), Bytes::new())?;
    within(limits, async {
        exchange(TcpStream::connect(address).await.map_err(Error::Connect)?, request, limits).await
    })
    .await
}

/// Any request to a Unix socket; `uri` is path and query.
pub async fn request_unix(
    socket: &Path,
    method: Method,
    uri: &str,
    body: Bytes,
    limits: Limits,
) -> Result<Response<Bytes>, Error> {
    let request = request(method, uri, "localhost", body)?;
    within(limits, async {
        exchange(UnixStream::connect(socket).await.map_err(Error::Connect)?, request, limits).await
    })
    .await
}

/// One request over a connection that is already there, without a limit in time.
pub async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, limits: Limits) -> Result<Response<Bytes>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| Error::Exchange(error.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, limits.body_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { Error::TooLong(limits.body_bytes) } else { Error::Exchange(error) }
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    // The connection is driven here and not by a task, so that giving up closes it.
    let mut answer = std::pin::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = &mut connection => ended.map_err(broken)?,
    }
    // The server closed: all that was to come has been read, and is waiting for the answer's own reader.
    answer.await
}

fn request(method: Method, uri: &str, host: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
    let request = Request::builder().method(method).uri(uri).header(HOST, host);
    request.body(Full::new(body)).map_err(Error::Request)
}

async fn within<T>(limits: Limits, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limits.timeout, work).await.unwrap_or(Err(Error::Timeout(limits.timeout)))
}

#[cfg(test)]
mod tests;
