//! What one probe does, as the kubelet would do it from the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use osm_redirect::{HttpProbe, ProbeAction};
use osm_runtime::http::{self, Limits};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tower::ServiceExt;

/// A page longer than this is no health page.
const BODY_BYTES: usize = 4 << 20;

/// An answer of the health protocol takes a few bytes.
const HEALTH_BYTES: usize = 1024;

/// What a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes.
    Passes,
    /// It fails, because the application says so.
    Answers(StatusCode),
    /// It fails, and why.
    Fails(String),
}

/// Carries out a probe against the application.
pub(super) async fn carry_out(action: &ProbeAction, agent: Option<HeaderValue>, limit: Duration) -> Outcome {
    let work = async {
        match action {
            ProbeAction::Http(probe) => ask(probe, agent).await,
            ProbeAction::Tcp { port } => connect(*port).await.map(|_| Outcome::Passes),
            ProbeAction::Grpc { port, service } => check_health(*port, service).await,
        }
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Fails(format!("{error:#}")),
        Err(_) => Outcome::Fails(format!("the application does not answer within {limit:?}")),
    }
}

async fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect(address).await.map_err(|error| anyhow::anyhow!("nobody listens on {address}: {error}"))
}

async fn ask(probe: &HttpProbe, agent: Option<HeaderValue>) -> anyhow::Result<Outcome> {
    let limits = Limits { body_bytes: BODY_BYTES, ..Limits::default() };
    let request = request(probe, agent)?;
    let stream = connect(probe.port).await?;
    let answer = if probe.is_tls {
        let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        let stream = TlsConnector::from(Arc::new(any_certificate()?)).connect(name, stream).await?;
        http::exchange(stream, request, limits).await?
    } else {
        http::exchange(stream, request, limits).await?
    };
    let status = answer.status();
    Ok(if (200..400).contains(&status.as_u16()) { Outcome::Passes } else { Outcome::Answers(status) })
}

fn request(probe: &HttpProbe, agent: Option<HeaderValue>) -> anyhow::Result<Request<Full<Bytes>>> {
    let path = if probe.path.starts_with('/') { probe.path.clone() } else { format!("/{}", probe.path) };
    let mut request = Request::builder().method(Method::GET).uri(path).body(Full::default())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, format!("127.0.0.1:{}", probe.port).parse()?);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.extend(agent.map(|agent| (header::USER_AGENT, agent)));
    for (name, value) in &probe.headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(request)
}

/// One call of the health protocol, its two messages written and read by hand: they have one field each.
async fn check_health(port: u16, service: &str) -> anyhow::Result<Outcome> {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect().await?;
    let length = u8::try_from(service.len()).map_err(|_| anyhow::anyhow!("the service's name is too long"))?;
    let mut message = vec![0x0a, length];
    message.extend_from_slice(service.as_bytes());
    let message = if service.is_empty() { Vec::new() } else { message };
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    body.extend_from_slice(&message);
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://127.0.0.1:{port}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))?;
    let answer = channel.oneshot(request).await?;
    let answer = Limited::new(answer.into_body(), HEALTH_BYTES).collect().await;
    let answer = answer.map_err(|error| anyhow::anyhow!("no usable answer: {error}"))?.to_bytes();
    // Field 1, a number, of value 1: SERVING.
    let message = answer.get(5..).unwrap_or_default();
    Ok(if message.starts_with(&[0x08, 0x01]) {
        Outcome::Passes
    } else {
        Outcome::Fails("the application does not say SERVING".to_owned())
    })
}

fn any_certificate() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// A probe asks whether somebody answers, not who; and the question does not leave the pod.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
