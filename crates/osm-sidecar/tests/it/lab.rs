//! One agent with its Envoy, its controller and its application, in a directory and on ports of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Response;
use osm_redirect::{Family, Upstreams};
use osm_runtime::http::{Limits, get_tcp};
use osm_sidecar::config::{self, EnvoyConfig, ParkConfig, ParkLimits, Pod};
use osm_sidecar::farewell::FarewellConfig;
use osm_sidecar::quit::QuitPolicy;
use osm_sidecar::reaper::Children;
use osm_sidecar::{Config, Listeners, agent};
use osm_testkit::{Outcome, envoy};
use osm_xds::Resources;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, block_in_place};
use tokio_util::sync::CancellationToken;

use crate::controller::{self, Controller};
use crate::resources::Ports;

/// For anything that the machine may be slow with.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Lab {
    pub(crate) controller: Controller,
    pub(crate) ports: Ports,
    pub(crate) status: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) asked: CancellationToken,
    pub(crate) agent: Option<JoinHandle<anyhow::Result<()>>>,
    dir: PathBuf,
}

impl Lab {
    /// Starts everything; the controller tells what `resources` makes of the ports.
    pub(crate) async fn start(resources: impl FnOnce(Ports) -> Option<Resources>) -> Lab {
        Lab::start_with(resources, |_| ()).await
    }

    /// The same with other settings of the agent.
    pub(crate) async fn start_with(
        resources: impl FnOnce(Ports) -> Option<Resources>,
        settings: impl FnOnce(&mut Config),
    ) -> Lab {
        let (controller, ports) = Lab::prepare(resources).await;
        Lab::start_beside(controller, ports, settings).await
    }

    /// The controller and the application alone.
    pub(crate) async fn prepare(resources: impl FnOnce(Ports) -> Option<Resources>) -> (Controller, Ports) {
        let ports = Ports { outbound: free_port(), inbound: free_port(), app: application().await };
        (Controller::start("127.0.0.1:0", resources(ports)).await, ports)
    }

    /// The agent beside them.
    pub(crate) async fn start_beside(controller: Controller, ports: Ports, settings: impl FnOnce(&mut Config)) -> Lab {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("osm-agent-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("token"), controller::TOKEN).unwrap();
        let mut config = Config {
            pod: Pod {
                name: "client-0".into(),
                namespace: "shop".into(),
                uid: "uid-0".into(),
                service_account: "client".into(),
            },
            controller: config::Controller {
                address: controller.address.to_string(),
                name: controller::NAME.into(),
                root_ca: controller.certificates.authority.cert_pem().to_owned(),
                token_file: dir.join("token"),
            },
            state_dir: dir.join("state"),
            last_good_age: Some(Duration::from_secs(3600)),
            park: ParkConfig {
                outbound: SocketAddr::from(([127, 0, 0, 1], ports.outbound)),
                inbound: SocketAddr::from(([127, 0, 0, 1], ports.inbound)),
                limits: Some(ParkLimits { connections: 100, bytes: 1 << 20, time: Duration::from_secs(60) }),
            },
            families: &[Family::V4],
            probes: Vec::new(),
            wait_for: Upstreams::default(),
            wait_limit: None,
            farewell: FarewellConfig { drain_limit: Duration::from_secs(5), with_application: None },
            quit: QuitPolicy::Refuse,
            envoy: EnvoyConfig {
                program: envoy(),
                log_level: "error".into(),
                concurrency: 2,
                connection_drain: Duration::from_secs(5),
                hung_after: None,
            },
        };
        settings(&mut config);
        let listeners = Listeners {
            status: vec![any_port().await],
            admin: vec![any_port().await],
            metrics: vec![any_port().await],
            probes: BTreeMap::new(),
        };
        let of = |listeners: &[TcpListener]| listeners[0].local_addr().unwrap();
        let (status, admin, metrics) = (of(&listeners.status), of(&listeners.admin), of(&listeners.metrics));
        let asked = CancellationToken::new();
        let agent = tokio::spawn(agent::run(config, listeners, Children::default(), asked.clone()));
        Lab { controller, ports, status, admin, metrics, asked, agent: Some(agent), dir }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn last_good(&self) -> PathBuf {
        self.state_dir().join("last-good.state")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// Whether the gate is open, and what the page says.
    pub(crate) async fn ready(&self) -> (bool, String) {
        match get_tcp(self.status, "/osm-sidecar/ready", Limits::default()).await {
            Ok(answer) => (answer.status() == 200, text(&answer)),
            Err(error) => (false, error.to_string()),
        }
    }

    pub(crate) async fn startup(&self) -> Value {
        let answer = get_tcp(self.status, "/osm-sidecar/startup", Limits::default()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap()
    }

    pub(crate) fn until_programmed(&self) {
        until(DEADLINE, async || match self.ready().await {
            (true, _) => Ok(()),
            (false, why) => Err(why),
        });
    }

    /// Waits until the gate is closed for a reason that has these words.
    pub(crate) fn until_it_waits_for(&self, words: &str) {
        until(DEADLINE, async || match self.ready().await {
            (false, why) if why.contains(words) => Ok(()),
            (_, what) => Err(format!("{words:?} is not said: {what}")),
        });
    }

    /// A request of the application through the mesh to itself.
    pub(crate) async fn request(&self, path: &str) -> Result<String, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports.outbound));
        let answer = get_tcp(address, path, Limits { timeout: DEADLINE, ..Limits::default() }).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(text(&answer)) } else { Err(format!("{}: {}", answer.status(), text(&answer))) }
    }

    /// The process of the Envoy that runs now, found by its bootstrap.
    pub(crate) fn envoy_pid(&self) -> i32 {
        self.envoys().first().copied().unwrap_or_else(|| panic!("no Envoy runs"))
    }

    pub(crate) fn envoys(&self) -> Vec<i32> {
        let bootstrap = self.state_dir().join("bootstrap.json");
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter(|pid| has_argument(*pid, &bootstrap)).collect()
    }

    /// Asks the agent to stop and waits for it.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.asked.cancel();
        self.agent.take().unwrap().await.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.abort();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Looks until the condition holds; the runtime goes on meanwhile.
#[track_caller]
pub(crate) fn until<O: Outcome, F: Future<Output = O>>(deadline: Duration, mut look: impl FnMut() -> F) -> O::Found {
    let runtime = tokio::runtime::Handle::current();
    block_in_place(|| osm_testkit::eventually(deadline, || runtime.block_on(look())))
}

pub(crate) fn text(answer: &Response<Bytes>) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

/// Says hello, and on `/slow` does so after two seconds.
async fn application() -> u16 {
    let listener = any_port().await;
    let port = listener.local_addr().unwrap().port();
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        "hello at last"
    };
    let router = axum::Router::new()
        .route("/", axum::routing::get(|| async { "hello" }))
        .route("/slow", axum::routing::get(slow));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn any_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// For those who bind themselves later: outside of the range from which the kernel takes ports for connections, and each
/// only once, so that nobody else has it by then.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let offset = u64::from(std::process::id()) * 64 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(offset % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn has_argument(pid: i32, path: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == path.as_os_str().as_encoded_bytes())
}
