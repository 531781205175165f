//! Clients that do not retry.

use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{say, server};

/// No request of these programs takes longer: the promise is a wait of about a second, not for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An `http://` URL with a host.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    authority: String,
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("must start with http://".to_owned());
        }
        let authority = uri.authority().ok_or("has no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Url { authority: format!("{}:{port}", authority.host()), path })
    }
}

/// One connection, on which requests are made one after another.
pub(crate) struct Connection(SendRequest<Empty<Bytes>>);

impl Connection {
    /// Connects once.
    pub(crate) async fn open(url: &Url) -> Result<Connection> {
        let stream =
            TcpStream::connect(&url.authority).await.with_context(|| format!("connecting to {}", url.authority))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its end is seen by the sender.
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    /// Makes one request and reads the whole answer.
    pub(crate) async fn get(&mut self, url: &Url) -> Result<(StatusCode, Bytes)> {
        self.ask(Method::GET, url).await
    }

    async fn ask(&mut self, method: Method, url: &Url) -> Result<(StatusCode, Bytes)> {
        let request =
            Request::builder().method(method).uri(&url.path).header("host", &url.authority).body(Empty::new())?;
        self.0.ready().await.context("the connection was closed")?;
        let response = self.0.send_request(request).await.context("sending the request")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("reading the answer")?.to_bytes();
        Ok((status, body))
    }
}

/// One request, at once; how it was answered, and an error unless with 200.
pub(crate) async fn once(url: &Url) -> Result<String> {
    let start = Instant::now();
    let mut connection = timeout(PATIENCE, Connection::open(url)).await.context("connecting took too long")??;
    let connected = start.elapsed();
    let (status, body) = timeout(PATIENCE, connection.get(url)).await.context("the answer took too long")??;
    let answered = start.elapsed();
    let said = format!(
        "status {} connect_ms {} total_ms {} body {}",
        status.as_u16(),
        connected.as_millis(),
        answered.as_millis(),
        String::from_utf8_lossy(&body).trim_end()
    );
    ensure!(status == StatusCode::OK, "{said}");
    Ok(said)
}

/// One order; an error unless it is answered with 200.
pub(crate) async fn post(url: &Url) -> Result<()> {
    let mut connection = timeout(PATIENCE, Connection::open(url)).await.context("connecting took too long")??;
    let asked = timeout(PATIENCE, connection.ask(Method::POST, url)).await;
    let (status, body) = asked.context("the answer took too long")??;
    say(&format!("status {} body {}", status.as_u16(), String::from_utf8_lossy(&body).trim_end()));
    ensure!(status == StatusCode::OK, "answered with status {status}");
    Ok(())
}

/// Tries until it is answered with 200, says when it began and when that was, and never ends.
pub(crate) async fn first(url: &Url) -> Result<()> {
    let started = unix_ms();
    let mut failed = 0;
    while timeout(PATIENCE, try_once(url)).await.context("an answer took too long")?.is_err() {
        failed += 1;
        sleep(Duration::from_millis(20)).await;
    }
    let answered = unix_ms();
    say(&format!(r#"{{"started_unix_ms":{started},"answered_unix_ms":{answered},"failed":{failed}}}"#));
    std::future::pending().await
}

async fn try_once(url: &Url) -> Result<()> {
    let (status, _) = Connection::open(url).await?.get(url).await?;
    ensure!(status == StatusCode::OK, "answered with status {status}");
    Ok(())
}

/// What a clock on the wall says: compared with that of another process on the same machine.
#[expect(clippy::disallowed_methods, reason = "an application that knows nothing of the mesh has no other clock")]
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Requests over one connection, ten a second; an error as soon as the connection does not carry one.
pub(crate) async fn keep(url: &Url, duration: Duration) -> Result<()> {
    let start = Instant::now();
    let mut connection = timeout(PATIENCE, Connection::open(url)).await.context("connecting took too long")??;
    let mut requests = 0;
    while start.elapsed() < duration {
        let (status, _) = timeout(PATIENCE, connection.get(url))
            .await
            .context("an answer took too long")?
            .with_context(|| format!("request {} on one connection", requests + 1))?;
        ensure!(status == StatusCode::OK, "request {} was answered with status {status}", requests + 1);
        requests += 1;
        sleep(Duration::from_millis(100)).await;
    }
    say(&format!("{requests} requests on one connection"));
    Ok(())
}

/// Connects once and reads the first line; an error unless it is the greeting.
pub(crate) async fn hear(target: &str) -> Result<()> {
    let start = Instant::now();
    let stream = timeout(PATIENCE, TcpStream::connect(target)).await.context("connecting took too long")??;
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(stream).read_line(&mut line)).await.context("no greeting came")??;
    if line != server::GREETING {
        bail!("heard {line:?} instead of the greeting");
    }
    say(&format!("heard the greeting after {} ms", start.elapsed().as_millis()));
    Ok(())
}
