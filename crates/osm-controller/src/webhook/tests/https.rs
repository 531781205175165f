//! The server itself: TLS, limits, a certificate that changes under way.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use osm_runtime::http::{Limits, exchange};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

struct Server {
    serving: Arc<Serving>,
    authority: Arc<Authority>,
    address: SocketAddr,
    stop: CancellationToken,
}

async fn server(webhooks: Arc<Webhooks>) -> Server {
    let authority = Arc::new(Authority::generate(clock::now(), "cluster.local").unwrap());
    let serving = Arc::new(Serving::new(authority.clone(), service_names(&ResolveOptions::default())).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let routes = Routes::from(routes::router(webhooks));
    tokio::spawn(port::serve(listener, serving.tls_for_everybody().unwrap(), routes, stop.clone()));
    Server { serving, authority, address, stop }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    /// As an API server connects: by the Service's name, trusting the bundle of the configuration.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.cert_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("osm-controller.osm-system.svc").unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    }

    async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let request = Request::builder().method(Method::POST).uri(path).header(header::HOST, "osm-controller");
        let request = request.header(header::CONTENT_TYPE, kind).body(Full::new(body.into())).unwrap();
        let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
        let answer = exchange(self.connect().await, request, limits).await.unwrap();
        (answer.status(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    async fn ask(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.post(path, "application/json", review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["response"].clone()
    }
}

#[tokio::test]
async fn a_pod_of_the_mesh_comes_back_with_a_patch() {
    let server = server(webhooks(Some(SHOP), None).0).await;
    let response = server.ask("/mutate-pod-creation", &review("shop", pod())).await;
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)), "{response}");
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    assert_eq!(patched["spec"]["containers"][0]["name"], "envoy");
    assert_eq!(patched["spec"]["containers"][0]["image"], "sidecar");
}

#[tokio::test]
async fn before_the_world_is_read_and_where_it_ends_nothing_is_made() {
    let early = server(webhooks(None, None).0).await;
    for path in ["/mutate-pod-creation", "/validate"] {
        let response = early.ask(path, &review("shop", pod())).await;
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(503)), "{response}");
    }
    let server = server(webhooks(Some(SHOP), None).0).await;
    let response = server.ask("/mutate-pod-creation", &review("unknown", pod())).await;
    assert!(response["status"]["message"].as_str().unwrap().contains("namespace unknown is not known"), "{response}");
}

#[tokio::test]
async fn a_new_certificate_is_used_at_once_and_disturbs_nobody() {
    let server = server(webhooks(Some(SHOP), None).0).await;
    let certificate = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let old = server.connect().await;
    let before = certificate(&old);
    server.serving.renew().unwrap();
    let fresh = server.connect().await;
    assert_ne!(certificate(&fresh), before);
    for stream in [old, fresh] {
        let body = Full::new(Bytes::from(review("shop", pod()).to_string()));
        let request = Request::post("/mutate-pod-creation").header(header::HOST, "osm-controller");
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
        assert_eq!(exchange(stream, request, Limits::default()).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn what_is_no_question_is_turned_away_with_words() {
    let server = server(webhooks(Some(SHOP), None).0).await;
    let long = vec![b' '; (8 << 20) + 1];
    for (kind, body, status, words) in [
        ("application/json", b"nonsense".to_vec(), StatusCode::BAD_REQUEST, "not an AdmissionReview"),
        ("application/json", Vec::new(), StatusCode::BAD_REQUEST, "not an AdmissionReview"),
        ("text/plain", b"{}".to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"),
        ("application/json", long, StatusCode::PAYLOAD_TOO_LARGE, "length limit"),
    ] {
        let (found, text) = server.post("/mutate-pod-creation", kind, body).await;
        assert_eq!(found, status, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn no_bytes_bring_it_down() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(async { server(webhooks(Some(SHOP), None).0).await });
    let mut runner = TestRunner::new(ProptestConfig { cases: 64, ..ProptestConfig::default() });
    let paths = prop::sample::select(vec!["/mutate-pod-creation", "/validate"]);
    let text = review("shop", pod()).to_string().into_bytes();
    // A right question with some bytes turned is the worst of all bytes.
    let turned = prop::collection::vec((0..text.len(), any::<u8>()), 0..4);
    let tried = runner.run(&(paths, any::<Vec<u8>>(), turned), |(path, bytes, turned)| {
        let mut broken = text.clone();
        turned.into_iter().for_each(|(at, byte)| broken[at] = byte);
        for body in [bytes, broken] {
            let (status, _) = runtime.block_on(server.post(path, "application/json", body));
            prop_assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&status), "{status}");
        }
        Ok(())
    });
    tried.unwrap();
    assert_eq!(runtime.block_on(server.ask("/mutate-pod-creation", &review("shop", pod())))["allowed"], true);
}
