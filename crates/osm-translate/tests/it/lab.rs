//! A real Envoy that is told what translate says, by files that it watches, and clients that show it certificates.
//! Nothing is redirected here: listeners are bound where a connection would have gone, on addresses of the loopback
//! that no other test has.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use osm_model::ProxyView;
use osm_pki::{Authority, CsrRequest, KeyAndCsr, WorkloadIdentity};
use osm_testkit::eventually;
use osm_translate::{to_json, translate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long Envoy lets connections of a removed chain go on, in seconds.
const DRAIN_SECONDS: &str = "1";

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::generate(jiff::Timestamp::now(), "cluster.local").expect("a root can be made"));

/// One Envoy. It ends with the value.
pub(crate) struct Lab {
    dir: PathBuf,
    envoy: Child,
    /// Where its listeners are bound.
    pub(crate) address: Ipv4Addr,
    /// Where the application of its pod is.
    pub(crate) application: Ipv4Addr,
}

/// A certificate and its key.
struct Leaf {
    chain_pem: String,
    key_pem: String,
}

/// An address of the loopback that nobody else has.
pub(crate) fn address() -> Ipv4Addr {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), low, GIVEN.fetch_add(1, Ordering::Relaxed))
}

impl Lab {
    /// Starts an Envoy with the view's identity, which listens on one port.
    pub(crate) fn start(view: &ProxyView, port: u16) -> Lab {
        let address = address();
        let dir = std::env::temp_dir().join(format!("osm-translate-{address}"));
        // A test of the same process number may have been killed.
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(&dir).expect("the directory for temporary files can be written");
        let leaf = leaf(&view.class.identity.namespace, &view.class.identity.service_account);
        let trusted = json!({"inline_string": AUTHORITY.cert_pem()});
        let secrets = [
            json!({"name": "service-cert", "tls_certificate": {
                "certificate_chain": {"inline_string": leaf.chain_pem}, "private_key": {"inline_string": leaf.key_pem},
            }}),
            json!({"name": "root-cert", "validation_context": {"trusted_ca": trusted}}),
        ];
        for secret in secrets {
            publish(&dir, secret["name"].as_str().expect("a secret has a name"), std::slice::from_ref(&secret));
        }
        let bootstrap = json!({
            "node": {"id": "lab", "cluster": "lab"},
            "dynamic_resources": {"lds_config": source(&dir, "listener"), "cds_config": source(&dir, "cluster")},
        });
        fs::write(dir.join("bootstrap.json"), bootstrap.to_string()).expect("a file can be written");
        let log = fs::File::create(dir.join("envoy.log")).expect("a file can be written");
        let envoy = Command::new(osm_testkit::envoy())
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "--drain-time-s", DRAIN_SECONDS])
            .args(["--drain-strategy", "immediate", "--file-flush-interval-msec", "50"])
            .args([Path::new("-c"), &dir.join("bootstrap.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("an open file has another handle"))
            .stderr(log)
            .spawn()
            .expect("Envoy can be started");
        let lab = Lab { dir, envoy, address, application: self::address() };
        lab.tell(view);
        let listens = SocketAddr::from((address, port));
        eventually(DEADLINE, || TcpStream::connect(listens).map_err(|error| format!("{error}: {}", lab.log())));
        lab
    }

    /// Tells Envoy the view: clusters and endpoints, then routes, then listeners.
    pub(crate) fn tell(&self, view: &ProxyView) {
        let mut told = to_json(&translate(view)).expect("our own resources are JSON");
        self.place(&mut told);
        for ty in ["endpoint", "cluster", "route", "listener"] {
            let of_type: Vec<Value> = told[ty].as_object().into_iter().flat_map(|map| map.values()).cloned().collect();
            publish(&self.dir, ty, &of_type);
        }
    }

    /// What Envoy wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("envoy.log")).unwrap_or_default()
    }

    /// Puts listeners and the application where this lab has them, and has everything fetched from files.
    fn place(&self, told: &mut Value) {
        for (_, cluster) in told["cluster"].as_object_mut().into_iter().flatten() {
            set_field(cluster, "address", "127.0.0.1", &json!(self.application.to_string()));
            replace(cluster, "eds_config", &source(&self.dir, "endpoint"));
            fetch_secrets(cluster, &self.dir);
        }
        for (_, listener) in told["listener"].as_object_mut().into_iter().flatten() {
            let ports: Vec<u64> = listener["filter_chains"].as_array().into_iter().flatten().map(port_of).collect();
            let socket =
                |port: &u64| json!({"socket_address": {"address": self.address.to_string(), "port_value": port}});
            let mut sockets = ports.iter().map(socket);
            let unused = json!({"socket_address": {"address": self.address.to_string(), "port_value": 1}});
            listener["address"] = sockets.next().unwrap_or(unused);
            listener["additional_addresses"] = sockets.map(|address| json!({"address": address})).collect();
            replace(listener, "config_source", &source(&self.dir, "route"));
            fetch_secrets(listener, &self.dir);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It has ended, or cannot be helped.
        self.envoy.kill().ok();
        self.envoy.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A connection over TLS as an identity of the mesh, to another.
pub(crate) fn connect(
    from: &str,
    to: &str,
    address: Ipv4Addr,
    port: u16,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let (namespace, account) = from.split_once('/').expect("an identity is namespace/service-account");
    let leaf = leaf(namespace, account);
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(AUTHORITY.cert_pem().as_bytes()).expect("it is PEM");
    roots.add(root).expect("it is a root");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).expect("it is PEM");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks them")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.expect("it is PEM"), key)
        .expect("key and certificate fit");
    config.alpn_protocols = vec![b"osm".to_vec()];
    let (namespace, account) = to.split_once('/').expect("an identity is namespace/service-account");
    let name = ServerName::try_from(format!("{account}.{namespace}.cluster.local")).expect("a DNS name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect((address, port))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(StreamOwned::new(connection, socket))
}

/// Sends a request and gives back the status and the body of the answer; the connection can be used again.
pub(crate) fn request(stream: &mut (impl Read + Write), head: &str) -> io::Result<(u16, String)> {
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// An application that answers every HTTP request with 200 and the path that it saw.
pub(crate) fn serve_http(address: Ipv4Addr, port: u16) {
    let listener = TcpListener::bind((address, port)).expect("nobody else has the address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_requests(stream));
        }
    });
}

fn answer_requests(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())?;
    }
}

fn leaf(namespace: &str, service_account: &str) -> Leaf {
    let identity = WorkloadIdentity::new("cluster.local", namespace, service_account).expect("a right name");
    let key = KeyAndCsr::generate().expect("a key can be made");
    let request = CsrRequest { csr_pem: &key.csr_pem, identity: &identity };
    let validity = jiff::SignedDuration::from_hours(1);
    let leaf = osm_pki::issue(&AUTHORITY, &request, validity, jiff::Timestamp::now()).expect("a right request");
    Leaf { chain_pem: leaf.chain_pem, key_pem: key.key_pem.to_string() }
}

/// Resources of a type as a file; a rename is what Envoy watches for.
fn publish(dir: &Path, ty: &str, resources: &[Value]) {
    let message = match ty {
        "cluster" => "envoy.config.cluster.v3.Cluster",
        "endpoint" => "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "listener" => "envoy.config.listener.v3.Listener",
        "route" => "envoy.config.route.v3.RouteConfiguration",
        "service-cert" | "root-cert" => "envoy.extensions.transport_sockets.tls.v3.Secret",
        other => panic!("there is no type {other}"),
    };
    let typed = resources.iter().cloned().map(|mut resource| {
        resource["@type"] = json!(format!("type.googleapis.com/{message}"));
        resource
    });
    let content = json!({"version_info": "1", "resources": typed.collect::<Vec<_>>()}).to_string();
    let path = dir.join(format!("{ty}.json"));
    if fs::read_to_string(&path).is_ok_and(|before| before == content) {
        return;
    }
    let new = dir.join(format!("{ty}.new"));
    fs::write(&new, content).expect("a file can be written");
    fs::rename(&new, &path).expect("a file can be renamed");
}

fn source(dir: &Path, ty: &str) -> Value {
    json!({"path_config_source": {"path": dir.join(format!("{ty}.json"))}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"})
}

fn port_of(chain: &Value) -> u64 {
    chain["filter_chain_match"]["destination_port"].as_u64().expect("every chain has a port")
}

/// Replaces a field wherever it is.
fn replace(value: &mut Value, field: &str, with: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(found) = map.get_mut(field) {
                *found = with.clone();
            }
            map.values_mut().for_each(|value| replace(value, field, with));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| replace(value, field, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Has each secret fetched from a file of its own; Envoy takes no more than one from a file.
fn fetch_secrets(value: &mut Value, dir: &Path) {
    match value {
        Value::Object(map) => {
            if map.contains_key("sds_config") {
                let secret = map["name"].as_str().expect("a secret has a name").to_owned();
                map.insert("sds_config".to_owned(), source(dir, &secret));
            }
            map.values_mut().for_each(|value| fetch_secrets(value, dir));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| fetch_secrets(value, dir)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Replaces one value of a field wherever it is.
fn set_field(value: &mut Value, field: &str, from: &str, to: &Value) {
    match value {
        Value::Object(map) => {
            if map.get(field).is_some_and(|found| found == from) {
                map.insert(field.to_owned(), to.clone());
            }
            map.values_mut().for_each(|value| set_field(value, field, from, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| set_field(value, field, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
