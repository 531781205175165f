//! A controller with a directory of manifests, and clients of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc;
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use osm_controller::{Args, Config, Listeners, run};
use osm_pki::{Claims, TokenKey, mint};
use osm_runtime::http::{Limits, get_tcp};
use osm_xds::ResourceType;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Status, Streaming};
use tower::ServiceExt;

/// Nothing here takes long; a busy machine may.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const SERVER_NAME: &str = "osm-controller.osm-system.svc";

pub(crate) struct Lab {
    pub(crate) root: PathBuf,
    pub(crate) key: TokenKey,
    pub(crate) ads: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) debug: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

impl Lab {
    /// A controller that is ready, with these manifests.
    pub(crate) async fn new(manifests: &[(&str, &str)]) -> Lab {
        let lab = Lab::prepare(manifests).await;
        lab.until_ready().await;
        lab
    }

    /// A controller that was just started.
    pub(crate) async fn prepare(manifests: &[(&str, &str)]) -> Lab {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("osm-controller-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        if !manifests.is_empty() {
            fs::create_dir(root.join("objects")).unwrap();
        }
        for (name, text) in manifests {
            fs::write(root.join("objects").join(name), text).unwrap();
        }
        let key = TokenKey::generate();
        write_private(&root.join("token.key"), &key.to_bytes());
        Lab::start(root, key).await
    }

    async fn start(root: PathBuf, key: TokenKey) -> Lab {
        let path = |name: &str| root.join(name).display().to_string();
        let any = "127.0.0.1:0";
        let args = Args::try_parse_from([
            "osm-controller",
            "--manifests",
            &path("objects"),
            "--state-dir",
            &path("state"),
            "--token-key",
            &path("token.key"),
            "--ads-listen",
            any,
            "--http-listen",
            any,
            "--debug-listen",
            any,
        ]);
        let config = Config::try_from(args.unwrap()).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let address = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap();
        let (ads, http, debug) = (address(&listeners.ads), address(&listeners.http), address(&listeners.debug));
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(config, listeners, stop.clone()));
        Lab { root, key, ads, http, debug, stop, running }
    }

    /// Stops the controller and starts another with the same directories.
    pub(crate) async fn restart(mut self) -> Lab {
        self.stop.cancel();
        (&mut self.running).await.unwrap().unwrap();
        let lab = self.start_again().await;
        lab.until_ready().await;
        lab
    }

    /// Another controller with the directories of one that has ended.
    pub(crate) async fn start_again(mut self) -> Lab {
        let key = TokenKey::from_bytes(self.key.to_bytes().to_vec()).unwrap();
        // The directories must survive this one.
        Lab::start(std::mem::take(&mut self.root), key).await
    }

    /// Moves a manifest into place.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.root.join("objects")).unwrap();
        fs::write(self.root.join("new"), text).unwrap();
        fs::rename(self.root.join("new"), self.root.join("objects").join(name)).unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = get_tcp(self.http, path, Limits::default()).await.unwrap();
        (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
    }

    pub(crate) async fn until_ready(&self) {
        until("ready", async || (self.get("/health/ready").await.0 == 200).then_some(())).await;
    }

    /// `/debug`, with the token that only we can read.
    pub(crate) async fn debug(&self, path: &str) -> Value {
        let token = fs::read_to_string(self.root.join("state/debug-token")).unwrap();
        let (status, body) = self.debug_with(path, Some(&format!("Bearer {token}"))).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) async fn debug_with(&self, path: &str, authorization: Option<&str>) -> (u16, String) {
        let channel = Endpoint::from_shared(format!("http://{}", self.debug)).unwrap().connect().await.unwrap();
        let mut request = http::Request::get(format!("http://{}{path}", self.debug));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        answer(channel, request.body(tonic::body::Body::empty()).unwrap()).await
    }

    pub(crate) fn claims(&self, pod: &str, service_account: &str) -> Claims {
        Claims {
            aud: "osm".to_owned(),
            namespace: "shop".to_owned(),
            service_account: service_account.to_owned(),
            pod: pod.to_owned(),
            pod_uid: format!("uid-of-{pod}"),
            exp: Timestamp::now() + SignedDuration::from_hours(1),
        }
    }

    pub(crate) fn token(&self, pod: &str, service_account: &str) -> String {
        mint(&self.key, &self.claims(pod, service_account))
    }

    pub(crate) async fn channel(&self) -> Channel {
        let root = fs::read(self.root.join("state/ca.pem")).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root)).domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.ads)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Asks for a certificate.
    pub(crate) async fn certificate(&self, token: Option<&str>, body: &str) -> (u16, Value) {
        self.post("/v1/certificate", token, body).await
    }

    /// Asks what sidecars ask for.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let mut request = http::Request::post(format!("https://{SERVER_NAME}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(tonic::body::Body::new(body.to_owned())).unwrap();
        let (status, body) = answer(self.channel().await, request).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body:?}")))
    }

    /// A session of this pod that subscribes to everything, as an agent does.
    pub(crate) async fn session(&self, pod: &str, service_account: &str) -> Ads {
        let token = self.token(pod, service_account);
        Ads::open(self.channel().await, Some(&token)).await.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.root != PathBuf::new() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

pub(crate) fn write_private(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

pub(crate) async fn answer(channel: Channel, request: http::Request<tonic::body::Body>) -> (u16, String) {
    let answer = channel.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// Looks until something is found.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The client's end of a session, and the copy that it was sent.
pub(crate) struct Ads {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    pub(crate) held: BTreeMap<ResourceType, BTreeMap<String, Vec<u8>>>,
    /// What it answers instead of accepting.
    pub(crate) rejection: Option<&'static str>,
}

impl Ads {
    pub(crate) async fn open(channel: Channel, token: Option<&str>) -> Result<Ads, Status> {
        let (requests, queue) = mpsc::channel(64);
        for ty in ResourceType::OF_CONTROLLER {
            let request = DeltaDiscoveryRequest {
                type_url: ty.url().to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                ..DeltaDiscoveryRequest::default()
            };
            requests.try_send(request).unwrap();
        }
        let mut call = tonic::Request::new(ReceiverStream::new(queue));
        if let Some(token) = token {
            call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let responses = AggregatedDiscoveryServiceClient::new(channel).delta_aggregated_resources(call).await?;
        Ok(Ads { requests, responses: responses.into_inner(), held: BTreeMap::new(), rejection: None })
    }

    /// Takes in and answers the next response; returns what changed.
    pub(crate) async fn next(&mut self) -> (ResourceType, Vec<String>) {
        let (response, ty) = loop {
            let response = tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("a response in time");
            let response = response.unwrap().expect("the session goes on");
            // What is said of the pod itself is no resource, and not answered.
            if let Some(ty) = ResourceType::from_url(&response.type_url) {
                break (response, ty);
            }
        };
        let held = self.held.entry(ty).or_default();
        let mut names = Vec::new();
        for resource in response.resources {
            names.push(resource.name.clone());
            held.insert(resource.name, resource.resource.unwrap().value);
        }
        for name in response.removed_resources {
            names.push(format!("-{name}"));
            held.remove(&name);
        }
        let error_detail =
            self.rejection.map(|message| rpc::Status { message: message.to_owned(), ..rpc::Status::default() });
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        // A server that has ended the session does not read this.
        let _ = self.requests.send(answer).await;
        (ty, names)
    }

    /// Takes in responses until one of each type has come.
    pub(crate) async fn until_complete(&mut self) {
        while self.held.len() < ResourceType::OF_CONTROLLER.len() {
            self.next().await;
        }
    }

    /// Takes in responses until the copy holds this name.
    pub(crate) async fn until_holds(&mut self, ty: ResourceType, name: &str) {
        while !self.names(ty).contains(&name) {
            self.next().await;
        }
    }

    pub(crate) fn names(&self, ty: ResourceType) -> Vec<&str> {
        self.held.get(&ty).into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// The error with which the session ends.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            match tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("an end in time") {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}

pub(crate) const NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}
";

pub(crate) const PERMISSIVE: &str = "
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: true}}
";

/// A pod that went through injection, with this label `app` and this service account.
pub(crate) fn pod(name: &str, app: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}, annotations: {{openservicemesh.io/injected: 'init: test'}}}}
spec: {{serviceAccountName: {app}, containers: [{{name: app, image: app}}]}}
"
    )
}

/// A service of the pods with this label, on port 80 to 8080.
pub(crate) fn service(name: &str, app: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: 10.96.0.20, selector: {{app: {app}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// The addresses of a service's pod.
pub(crate) fn endpoints(service: &str, pod: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|a| format!("{{addresses: [{a}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {pod}}}}}"))
        .collect();
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}
