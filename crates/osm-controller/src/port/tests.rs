use axum::Router;
use axum::routing::get;
use osm_pki::Authority;
use osm_runtime::clock;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::ServiceExt;

use super::*;
use crate::serving::Serving;

struct Server {
    authority: Arc<Authority>,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn server() -> Server {
    let authority = Arc::new(Authority::generate(clock::now(), "cluster.local").unwrap());
    let serving = Arc::new(Serving::new(authority.clone(), vec!["server".to_owned()]).unwrap());
    let router = Router::new()
        .route("/ok", get(|| async { "ok" }))
        .route("/fault", get(async || -> &'static str { panic!("a fault in one session") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(listener, serving.tls().unwrap(), Routes::from(router), stop.clone()));
    Server { authority, address, stop, serving }
}

impl Server {
    async fn connect(&self) -> Channel {
        let root = Certificate::from_pem(self.authority.cert_pem());
        let tls = ClientTlsConfig::new().ca_certificate(root).domain_name("server");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}

async fn ask(channel: &Channel, path: &str) -> Option<u16> {
    let request = http::Request::get(format!("https://server{path}")).body(tonic::body::Body::empty()).unwrap();
    channel.clone().oneshot(request).await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn a_panic_in_one_session_ends_that_session_alone() {
    let server = server().await;
    let (faulty, other) = (server.connect().await, server.connect().await);
    assert_eq!(ask(&other, "/ok").await, Some(200));
    assert_eq!(ask(&faulty, "/fault").await, None);
    assert_eq!(ask(&other, "/ok").await, Some(200));
    assert_eq!(ask(&server.connect().await, "/ok").await, Some(200));
}

#[tokio::test]
async fn peers_that_say_nothing_or_nonsense_hold_nobody_up() {
    let server = server().await;
    let mut peers = Vec::new();
    for _ in 0..50 {
        peers.push(TcpStream::connect(server.address).await.unwrap());
    }
    for peer in peers.iter().take(25) {
        peer.try_write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    assert_eq!(ask(&server.connect().await, "/ok").await, Some(200));
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_stop() {
    let server = server().await;
    let idle = server.connect().await;
    assert_eq!(ask(&idle, "/ok").await, Some(200));
    server.stop.cancel();
    tokio::time::timeout(5 * GRACE, server.serving).await.expect("an end in time").unwrap().unwrap();
}
