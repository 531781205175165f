//! Servers: HTTP, and a protocol in which the server speaks first.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::say;

/// What the server that speaks first says.
pub(crate) const GREETING: &str = "hello, you have reached a server that speaks first\n";

/// Answers every HTTP/1 request with a greeting, until told to end; then it accepts nobody, and finishes what has begun.
pub(crate) async fn serve(address: SocketAddr, name: String, delay: Duration) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    say(&format!("{name} serves HTTP on {address}"));
    let name: Arc<str> = name.into();
    let mut terminate = signal(SignalKind::terminate()).context("asking for SIGTERM")?;
    let mut connections = JoinSet::new();
    let (stop, stopped) = watch::channel(());
    loop {
        // All are cancel safe.
        let stream = tokio::select! {
            _ = terminate.recv() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted.context("accepting a connection")?.0,
        };
        connections.spawn(serve_one(stream, Arc::clone(&name), delay, stopped.clone()));
    }
    drop((listener, stop));
    connections.join_all().await;
    Ok(())
}

async fn serve_one(stream: TcpStream, name: Arc<str>, delay: Duration, mut stopped: watch::Receiver<()>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let greeting = format!("hello from {name}, you asked for {}\n", request.uri().path());
        async move {
            tokio::time::sleep(delay).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(greeting))))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    // A client that goes away in the middle is its own affair, so how a connection ends does not matter.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}

/// Greets every connection first, then echoes, until killed.
pub(crate) async fn greet(port: u16) -> Result<()> {
    let listener = listen(port).await?;
    say(&format!("speaks first on port {port}"));
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        tokio::spawn(async move {
            // A client that goes away in the middle is its own affair.
            greet_one(stream).await.ok();
        });
    }
}

async fn greet_one(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(GREETING.as_bytes()).await?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

/// On every IPv4 address.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.with_context(|| format!("listening on port {port}"))
}
