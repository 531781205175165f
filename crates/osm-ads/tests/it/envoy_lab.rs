//! A real Envoy that follows our service over a Unix socket, in a directory of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use osm_ads::{Host, Limits, Node, SessionEvent, Subscription};
use osm_runtime::http::{self, get_tcp, get_unix};
use osm_xds::{Rejection, ResourceType, Resources, SessionStatus};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap, transport::Server};

use crate::{envoy_resources::Plan, host::DEADLINE};

/// An Envoy and the server that it follows.
pub(crate) struct Lab {
    dir: PathBuf,
    envoy: Child,
    pub(crate) server: EnvoyServer,
}

/// Our service on Envoy's socket.
pub(crate) struct EnvoyServer {
    resources: watch::Sender<Option<Arc<Resources>>>,
    pub(crate) status: watch::Receiver<SessionStatus>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

struct ForEnvoy {
    resources: watch::Receiver<Option<Arc<Resources>>>,
    status: watch::Sender<SessionStatus>,
}

impl Host for ForEnvoy {
    async fn open(&self, _: &MetadataMap, node: &Node) -> Result<Subscription, Status> {
        assert_eq!((node.id.as_str(), node.user_agent.as_str()), ("shop/client", "envoy"));
        let status = self.status.clone();
        let report = move |event| {
            if let SessionEvent::Status(new) = event {
                status.send_replace(new);
            }
        };
        Ok(Subscription { resources: self.resources.clone(), notices: None, report: Box::new(report) })
    }
}

impl EnvoyServer {
    pub(crate) fn start(socket: &Path, resources: Option<Arc<Resources>>) -> Self {
        let (resources, followed) = watch::channel(resources);
        Self::start_with(socket, resources, followed)
    }

    /// Serves what somebody else sends; `resources` must then not be used.
    pub(crate) fn start_with(
        socket: &Path,
        resources: watch::Sender<Option<Arc<Resources>>>,
        followed: watch::Receiver<Option<Arc<Resources>>>,
    ) -> Self {
        let (status_sender, status) = watch::channel(SessionStatus::default());
        // Left by the server before this one, if any.
        fs::remove_file(socket).ok();
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let host = Arc::new(ForEnvoy { resources: followed, status: status_sender });
        let shutdown = CancellationToken::new();
        let service = osm_ads::service(host, Limits::default(), shutdown.clone());
        let stop = shutdown.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await.unwrap();
        });
        Self { resources, status, shutdown, serving }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }

    /// Tells Envoy, without waiting for what it says.
    pub(crate) fn tell(&self, plan: &Plan) {
        self.resources.send_replace(Some(plan.resources()));
    }

    /// Tells Envoy, and waits until it has answered for all of it.
    pub(crate) async fn apply(&self, plan: &Plan) -> SessionStatus {
        let resources = plan.resources();
        self.tell(plan);
        self.settled(&resources).await
    }

    /// Waits until Envoy has answered for all of these.
    pub(crate) async fn settled(&self, resources: &Resources) -> SessionStatus {
        let is_current = |status: &SessionStatus| {
            ResourceType::ALL.into_iter().all(|ty| status.of(ty).version == resources.version_of(ty))
        };
        let mut following = self.status.clone();
        let settled = following.wait_for(|status| is_current(status) && status.is_settled());
        match tokio::time::timeout(DEADLINE, settled).await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("Envoy does not settle: {:#?}", self.status.borrow()),
        }
    }

    /// Waits until Envoy rejects something.
    pub(crate) async fn rejection(&mut self) -> (ResourceType, Rejection) {
        let rejected = self.status.wait_for(|status| status.rejected().next().is_some());
        let status = tokio::time::timeout(DEADLINE, rejected).await.expect("Envoy rejects it").unwrap().clone();
        let (ty, rejection) = status.rejected().next().unwrap();
        (ty, rejection.clone())
    }
}

impl Lab {
    pub(crate) fn start(plan: &Plan) -> Self {
        Self::start_beside(|socket| EnvoyServer::start(socket, Some(plan.resources())))
    }

    /// An Envoy beside the server that `serve` starts on its socket.
    pub(crate) fn start_beside(serve: impl FnOnce(&Path) -> EnvoyServer) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let lab = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("osm-ads-{}-{lab}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let server = serve(&dir.join("xds.sock"));
        let bootstrap = bootstrap(&dir.join("xds.sock"), &dir.join("admin.sock"));
        fs::write(dir.join("bootstrap.json"), bootstrap.to_string()).unwrap();
        let log = fs::File::create(dir.join("envoy.log")).unwrap();
        let envoy = Command::new(osm_testkit::envoy())
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"])
            .args(["--component-log-level", "upstream:info,config:info", "-c"])
            .arg(dir.join("bootstrap.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { dir, envoy, server }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("xds.sock")
    }

    /// An answer of Envoy's administration, as JSON.
    pub(crate) async fn admin(&self, path: &str) -> Value {
        let answer = get_unix(&self.dir.join("admin.sock"), path, http::Limits::default()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// One part of Envoy's configuration, by the name of its type and its field.
    pub(crate) async fn configs(&self, kind: &str, field: &str) -> Vec<Value> {
        let dump = self.admin("/config_dump").await;
        let sections = dump["configs"].as_array().unwrap().iter();
        let of_kind = sections.filter(|section| section["@type"].as_str().unwrap().ends_with(kind));
        of_kind.flat_map(|section| section[field].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Where Envoy's only listener is, once it serves.
    pub(crate) async fn listener(&self) -> SocketAddr {
        let listeners = self.admin("/listeners?format=json").await;
        let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        format!("127.0.0.1:{}", socket["port_value"].as_u64().expect("there is a listener")).parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("envoy.log")).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.envoy.kill().ok();
        self.envoy.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let tail: String = tail.into_iter().rev().map(|line| format!("{line}\n")).collect();
            std::io::Write::write_all(&mut std::io::stderr(), tail.as_bytes()).ok();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Looks until there is an answer.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let found = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect("it happens before the deadline")
}

/// A server that answers every request with its name; returns its port.
pub(crate) async fn server(name: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// The status and the body of a request.
pub(crate) async fn get(address: SocketAddr) -> (u16, String) {
    let answer = get_tcp(address, "/", http::Limits { timeout: DEADLINE, ..http::Limits::default() }).await.unwrap();
    (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
}

fn bootstrap(xds_socket: &Path, admin_socket: &Path) -> Value {
    let from_ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
    let endpoint = json!({ "endpoint": { "address": { "pipe": { "path": xds_socket } } } });
    json!({
        "node": { "id": "shop/client", "cluster": "client.shop" },
        "admin": { "address": { "pipe": { "path": admin_socket } } },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "agent" } }],
            },
            "cds_config": from_ads.clone(),
            "lds_config": from_ads,
        },
        "static_resources": { "clusters": [{
            "name": "agent",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": http2,
            "load_assignment": { "cluster_name": "agent", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }] },
    })
}
