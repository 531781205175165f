//! How long it takes to inject a pod, and how many come through, as an API server would ask.
//!
//! A controller of its own, with one namespace of the mesh and one beside it. The baseline is the same question about
//! a pod that stays as it is: all that TLS, HTTP and JSON cost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use osm_runtime::http::{Limits, exchange, get_tcp};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::figures::Figures;
use crate::mesh::program;

/// OSM 1.2 on a cluster of one node of two processors, a hundred pods made at once; see README.md.
const OSM: &str = "OSM itself, elsewhere: 4.5 pods a second, p99 0.4 to 3.3 s";

const WEBHOOK: &str = "127.0.0.1:19090";
const HEALTH: &str = "127.0.0.1:19091";

const NAMESPACES: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {openservicemesh.io/monitored-by: osm}
  annotations: {openservicemesh.io/sidecar-injection: enabled}
---
apiVersion: v1
kind: Namespace
metadata: {name: beside}
";

pub(crate) fn run(count: usize, at_once: usize) -> Result<String> {
    ensure!(count > 0 && at_once > 0, "--count and --at-once must be 1 or more");
    let controller = Controller::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let connector = controller.connector()?;
    let inject = Question::inject("shop");
    let answer = runtime.block_on(inject.ask(&connector))?;
    let order = Question::order(&answer)?;
    let measure = |question: &Question, at_once| runtime.block_on(measure(&connector, question, count, at_once));
    let (alone, _) = measure(&inject, 1)?;
    let (baseline, _) = measure(&Question::inject("beside"), 1)?;
    let (looked_at, _) = measure(&order, 1)?;
    let (crowd, took) = measure(&inject, at_once)?;
    let per_second = (count * at_once) as f64 / took.as_secs_f64();
    let ratio = alone.median().as_secs_f64() / baseline.median().as_secs_f64();
    Ok([
        format!("{count} pods one after the other, each on a connection of its own; milliseconds"),
        head(),
        row("injected", &alone),
        row("baseline: left as it is", &baseline),
        row("its order looked at once more", &looked_at),
        row(&format!("injected, {at_once} at a time"), &crowd),
        format!("{per_second:.0} pods injected a second; ratio to the baseline, of medians: {ratio:.1}"),
        OSM.to_owned(),
    ]
    .join("\n"))
}

/// In tenths of milliseconds, since whole ones would say little.
fn row(name: &str, figures: &Figures) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let [median, p99, longest] = [figures.median(), figures.p99(), figures.longest()].map(ms);
    format!("{name:44} {median:8.1} {p99:8.1} {longest:8.1}")
}

fn head() -> String {
    Figures::head("")
}

async fn measure(
    connector: &TlsConnector,
    question: &Question,
    count: usize,
    at_once: usize,
) -> Result<(Figures, Duration)> {
    let begun = Instant::now();
    let askers = (0..at_once).map(|_| {
        let (connector, question) = (connector.clone(), question.clone());
        tokio::spawn(async move {
            let mut measured = Vec::new();
            for _ in 0..count {
                let begun = Instant::now();
                question.ask(&connector).await?;
                measured.push(begun.elapsed());
            }
            anyhow::Ok(measured)
        })
    });
    let askers: Vec<_> = askers.collect();
    let mut measured = Vec::new();
    for asker in askers {
        measured.extend(asker.await??);
    }
    Ok((Figures::of(measured), begun.elapsed()))
}

/// What the API server asks.
#[derive(Clone)]
struct Question {
    path: &'static str,
    body: String,
    /// Whether the answer changes the pod.
    is_patched: bool,
}

impl Question {
    /// About a pod that is made in a namespace.
    fn inject(namespace: &str) -> Question {
        let body = review(namespace, &pod());
        Question { path: "/mutate-pod-creation", body, is_patched: namespace == "shop" }
    }

    /// About the pod that became of it.
    fn order(answer: &Value) -> Result<Question> {
        let patch = answer["response"]["patch"].as_str().context("the pod is not injected")?;
        let patch = base64::engine::general_purpose::STANDARD.decode(patch)?;
        let patch: json_patch::Patch = serde_json::from_slice(&patch)?;
        let mut pod = pod();
        json_patch::patch(&mut pod, &patch)?;
        Ok(Question { path: "/validate", body: review("shop", &pod), is_patched: false })
    }

    /// Asks on a connection of its own.
    async fn ask(&self, connector: &TlsConnector) -> Result<Value> {
        let stream = tokio::net::TcpStream::connect(WEBHOOK).await?;
        let stream = connector.connect(ServerName::try_from("osm-controller.osm-system.svc")?, stream).await?;
        let request = http::Request::post(self.path).header("host", WEBHOOK);
        let request = request.header("content-type", "application/json").body(self.body.clone().into())?;
        let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
        let answer = exchange(stream, request, limits).await?;
        let answer: Value = serde_json::from_slice(answer.body())?;
        let is_expected =
            answer["response"]["allowed"] == true && answer["response"]["patch"].is_string() == self.is_patched;
        ensure!(is_expected, "an answer that was not expected: {answer}");
        Ok(answer)
    }
}

fn pod() -> Value {
    let probe = json!({"httpGet": {"path": "/ok", "port": 8080}});
    let container =
        json!({"name": "app", "image": "web:1", "ports": [{"containerPort": 8080}], "livenessProbe": probe});
    json!({"metadata": {"generateName": "web-", "labels": {"app": "web"}}, "spec": {"containers": [container]}})
}

fn review(namespace: &str, pod: &Value) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": namespace, "object": pod}})
    .to_string()
}

/// A controller that is stopped, and whose directory is removed, when this goes.
struct Controller {
    process: Child,
    root: PathBuf,
}

impl Controller {
    fn start() -> Result<Controller> {
        let root = env::temp_dir().join(format!("osm-bench-webhook-{}", std::process::id()));
        fs::create_dir_all(root.join("objects"))?;
        fs::write(root.join("objects/namespaces.yaml"), NAMESPACES)?;
        write_private(&root.join("token.key"), &[7; 32])?;
        let process = Command::new(program("osm-controller")?)
            .arg("--manifests")
            .arg(root.join("objects"))
            .arg("--state-dir")
            .arg(root.join("state"))
            .arg("--token-key")
            .arg(root.join("token.key"))
            .args(["--webhook-listen", WEBHOOK, "--http-listen", HEALTH])
            .args(["--ads-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0", "--verbosity", "error"])
            .stdout(Stdio::null())
            .spawn()
            .context("starting osm-controller")?;
        let controller = Controller { process, root };
        controller.wait_until_ready()?;
        Ok(controller)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let health: SocketAddr = HEALTH.parse()?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let answer = runtime.block_on(get_tcp(health, "/health/ready", Limits::default()));
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        bail!("osm-controller is not ready after 20 s")
    }

    fn connector(&self) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.root.join("state/ca.pem"))?;
        roots.add(CertificateDer::from_pem_slice(&pem)?)?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}
