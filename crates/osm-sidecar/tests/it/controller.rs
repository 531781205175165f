//! A controller that says what the test wants: delta ADS and certificates on one TLS port, as the real one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use osm_ads::{Host, Limits, Node, Notice, SessionEvent, Subscription};
use osm_pki::{Authority, CsrRequest, WorkloadIdentity, issue, issue_server};
use osm_runtime::clock;
use osm_xds::Resources;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::lab::free_port;

pub(crate) const NAME: &str = "osm-controller.osm-system.svc";
pub(crate) const TOKEN: &str = "the-pods-token";

/// What the test directs and sees.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    pub(crate) resources: watch::Sender<Option<Arc<Resources>>>,
    /// What it says of the pod itself.
    pub(crate) notice: watch::Sender<Notice>,
    pub(crate) certificates: Arc<Certificates>,
    /// What sessions said, oldest first.
    pub(crate) events: Arc<Mutex<Vec<SessionEvent>>>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

/// Who signs, and whether.
pub(crate) struct Certificates {
    pub(crate) authority: Authority,
    pub(crate) refusal: Mutex<Option<(StatusCode, &'static str)>>,
    pub(crate) lifetime: Mutex<SignedDuration>,
    pub(crate) issued: Mutex<u32>,
}

struct Streams {
    resources: watch::Receiver<Option<Arc<Resources>>>,
    notice: watch::Receiver<Notice>,
    events: Arc<Mutex<Vec<SessionEvent>>>,
}

impl Controller {
    /// Listens on `address`; port 0 for one that nobody takes while this does not listen.
    pub(crate) async fn start(address: &str, resources: Option<Resources>) -> Controller {
        let certificates = Arc::new(Certificates {
            authority: Authority::generate(clock::now(), "cluster.local").unwrap(),
            refusal: Mutex::default(),
            lifetime: Mutex::new(SignedDuration::from_hours(24)),
            issued: Mutex::new(0),
        });
        let mut address: SocketAddr = address.parse().unwrap();
        if address.port() == 0 {
            address.set_port(free_port());
        }
        let listener = TcpListener::bind(address).await.unwrap();
        let mut controller = Controller {
            address: listener.local_addr().unwrap(),
            resources: watch::channel(resources.map(Arc::new)).0,
            notice: watch::channel(Notice::default()).0,
            certificates,
            events: Arc::default(),
            stop: CancellationToken::new(),
            server: tokio::spawn(std::future::ready(())),
        };
        controller.serve(listener);
        controller
    }

    /// Listens again after a stop.
    pub(crate) async fn resume(&mut self, resources: Option<Resources>) {
        self.resources.send_replace(resources.map(Arc::new));
        self.stop = CancellationToken::new();
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        let Certificates { authority, .. } = &*self.certificates;
        let server = issue_server(authority, &[NAME.to_owned()], SignedDuration::from_hours(24), clock::now()).unwrap();
        let (resources, notice) = (self.resources.subscribe(), self.notice.subscribe());
        let streams = Streams { resources, notice, events: self.events.clone() };
        let ads = osm_ads::service(Arc::new(streams), Limits::default(), self.stop.clone());
        let signing = axum::routing::post(sign).with_state(self.certificates.clone());
        let router = Routes::new(ads).into_axum_router().route("/v1/certificate", signing);
        let identity = Identity::from_pem(&server.leaf.chain_pem, server.key_pem.as_str());
        let mut builder = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        let serving = builder
            .add_routes(Routes::from(router))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), self.stop.clone().cancelled_owned());
        self.server = tokio::spawn(async move { serving.await.unwrap() });
    }

    /// Ends every stream and stops listening.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.server).await.unwrap();
    }

    pub(crate) fn tell(&self, resources: Resources) {
        self.resources.send_replace(Some(Arc::new(resources)));
    }

    /// What was rejected, in the words that arrived here.
    pub(crate) fn rejections(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let words = events.iter().filter_map(|event| match event {
            SessionEvent::Rejected { message, .. } => Some(message.clone()),
            SessionEvent::Accepted { .. }
            | SessionEvent::Status(_)
            | SessionEvent::Answered(_)
            | SessionEvent::Closed => None,
        });
        words.collect()
    }

    /// Whether the last session has heard that everything is accepted.
    pub(crate) fn is_settled(&self) -> bool {
        let events = self.events.lock().unwrap();
        let last = events.iter().rev().find_map(|event| match event {
            SessionEvent::Status(status) => Some(status.is_settled()),
            SessionEvent::Accepted { .. }
            | SessionEvent::Rejected { .. }
            | SessionEvent::Answered(_)
            | SessionEvent::Closed => None,
        });
        last.unwrap_or(false)
    }
}

impl Host for Streams {
    async fn open(&self, metadata: &MetadataMap, node: &Node) -> Result<Subscription, Status> {
        let expected = format!("Bearer {TOKEN}");
        if metadata.get("authorization").and_then(|value| value.to_str().ok()) != Some(&expected) {
            return Err(Status::unauthenticated("this token is not known"));
        }
        assert_eq!(node.id, "shop/client-0");
        let events = self.events.clone();
        let report = move |event| events.lock().unwrap().push(event);
        Ok(Subscription {
            resources: self.resources.clone(),
            notices: Some(self.notice.clone()),
            report: Box::new(report),
        })
    }
}

async fn sign(State(signing): State<Arc<Certificates>>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    if headers["authorization"] != format!("Bearer {TOKEN}") {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "this token is not known" }))).into_response();
    }
    if let Some((status, reason)) = *signing.refusal.lock().unwrap() {
        return (status, Json(json!({ "error": reason }))).into_response();
    }
    let identity = WorkloadIdentity::new("cluster.local", "shop", "client").unwrap();
    let request = CsrRequest { csr_pem: asked["csr"].as_str().unwrap(), identity: &identity };
    let lifetime = *signing.lifetime.lock().unwrap();
    let leaf = issue(&signing.authority, &request, lifetime, clock::now()).unwrap();
    *signing.issued.lock().unwrap() += 1;
    Json(json!({
        "certificateChain": leaf.chain_pem,
        "trustBundle": signing.authority.cert_pem(),
        "notAfter": leaf.validity.not_after.to_string(),
    }))
    .into_response()
}
