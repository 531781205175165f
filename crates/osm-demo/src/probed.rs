//! An application with every kind of thing that a kubelet can probe: HTTP, HTTPS and the health protocol of gRPC.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::say;
use crate::server::listen;

/// Where each of them is served.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Ports {
    /// Port for HTTP.
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// Port for HTTPS, with a certificate that nobody knows.
    #[arg(long, default_value_t = 8443)]
    https: u16,
    /// Port for gRPC.
    #[arg(long, default_value_t = 9090)]
    grpc: u16,
}

/// What every question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Health {
    /// All is well.
    Serving,
    /// Nothing works: 500, and NOT_SERVING.
    NotServing,
}

/// Serves all of them until killed.
pub(crate) async fn serve(ports: Ports, health: Health) -> Result<()> {
    let tls = TlsAcceptor::from(Arc::new(any_certificate()?));
    let (http, https, grpc) = (listen(ports.http).await?, listen(ports.https).await?, listen(ports.grpc).await?);
    say(&format!("serves HTTP on {}, HTTPS on {}, gRPC on {}: {health:?}", ports.http, ports.https, ports.grpc));
    loop {
        // All are cancel safe. A client that goes away in the middle is its own affair.
        tokio::select! {
            accepted = http.accept() => {
                let (stream, _) = accepted.context("accepting a connection")?;
                tokio::spawn(answer_http(stream, health));
            }
            accepted = https.accept() => {
                let (stream, _) = accepted.context("accepting a connection")?;
                tokio::spawn(answer_https(tls.clone(), stream, health));
            }
            accepted = grpc.accept() => {
                let (stream, _) = accepted.context("accepting a connection")?;
                tokio::spawn(answer_grpc(stream, health));
            }
        }
    }
}

async fn answer_https(tls: TlsAcceptor, stream: TcpStream, health: Health) {
    if let Ok(stream) = tls.accept(stream).await {
        answer_http(stream, health).await;
    }
}

async fn answer_http(stream: impl AsyncRead + AsyncWrite + Unpin, health: Health) {
    let answer = service_fn(move |_: Request<Incoming>| async move {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"probed\n")));
        *answer.status_mut() = match health {
            Health::Serving => StatusCode::OK,
            Health::NotServing => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Ok::<_, Infallible>(answer)
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
}

/// The answer of `grpc.health.v1.Health/Check`, written by hand: it has one field.
async fn answer_grpc(stream: TcpStream, health: Health) {
    let answer = service_fn(move |_: Request<Incoming>| async move {
        let status = match health {
            Health::Serving => 1,
            Health::NotServing => 2,
        };
        let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, status]);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let mut answer = Response::new(Full::new(message).with_trailers(async move { Some(Ok(trailers)) }));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok::<_, Infallible>(answer)
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), answer).await.ok();
}

/// Made for this run and vouched for by nobody.
fn any_certificate() -> Result<ServerConfig> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("making a certificate")?;
    tls_with(cert.der().clone(), signing_key.into())
}

/// TLS under this certificate, for clients that show none.
pub(crate) fn tls_with(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Result<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choosing versions of TLS")?
        .with_no_client_auth();
    config.with_single_cert(vec![certificate], key).context("using the certificate")
}
