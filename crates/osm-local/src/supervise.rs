//! The controller's process: started in the router's namespace, started again when it dies, asked whether it is ready.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use osm_runtime::{Backoff, chance, clock, http};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::desired::OSM_NAMESPACE;
use crate::state_dir::StateDir;
use crate::status::ControllerStatus;

/// The controller's port for health, in the router's namespace.
const HEALTH: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9091);
/// Between two looks at a controller that is not ready yet.
const EAGER: Duration = Duration::from_millis(50);
/// Between two looks at one that is.
const CALM: Duration = Duration::from_secs(2);
/// Between two starts of a controller that dies.
const RESTARTS: Backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(5) };
/// One that ran this long is not dying of what killed the one before.
const STEADY: Duration = Duration::from_secs(10);

/// What others must know of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) status: ControllerStatus,
    /// The certificate of its authority (PEM), as soon as there is one.
    pub(crate) root_ca_pem: Option<String>,
}

/// Keeps a controller running for ever. Ends only if there is no program to run, after saying so.
pub(crate) async fn supervise(program: PathBuf, state: StateDir, tell: watch::Sender<Controller>) {
    if !program.exists() {
        let reason = format!("{} does not exist; no pod can join the mesh", program.display());
        tell.send_modify(|controller| controller.status.reason = reason);
        return;
    }
    let mut rng = chance::generator();
    let mut failures = 0;
    loop {
        let started = clock::monotonic();
        let ended = match start(&program, &state) {
            Ok(child) => watch_over(child, &state, &tell).await,
            Err(error) => format!("{error:#}"),
        };
        failures = if started.elapsed() >= STEADY { 1 } else { failures + 1 };
        tracing::warn!(reason = %ended, "the controller is started again");
        tell.send_modify(|controller| {
            controller.status = ControllerStatus {
                pid: None,
                ready: false,
                restarts: controller.status.restarts + 1,
                reason: format!("{ended}; see {}", state.controller_log().display()),
            };
        });
        sleep(RESTARTS.delay(failures, &mut rng)).await;
    }
}

/// Where the controller's program is: as the environment says, or beside this program.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("OSM_CONTROLLER_BIN").map_or_else(|| beside_own("osm-controller"), PathBuf::from)
}

/// A program in the folder of this one.
pub(crate) fn beside_own(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new("/")).join(name)
}

fn start(program: &Path, state: &StateDir) -> anyhow::Result<Child> {
    let log: File = OpenOptions::new().create(true).append(true).open(state.controller_log())?;
    let again = log.try_clone().context("opening the log twice")?;
    Command::new(program)
        .arg("--manifests")
        .arg(state.objects())
        .arg("--state-dir")
        .arg(state.controller())
        .arg("--token-key")
        .arg(state.token_key())
        .arg("--runner-socket")
        .arg(state.control_socket())
        .args(["--osm-namespace", OSM_NAMESPACE])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}

/// Tells how the controller is until it ends; gives back how it ended.
async fn watch_over(mut child: Child, state: &StateDir, tell: &watch::Sender<Controller>) -> String {
    let pid = child.id();
    tell.send_modify(|controller| {
        controller.status.pid = pid;
        controller.status.reason = "starting".into();
    });
    let looking = async {
        loop {
            let reason = look().await;
            let root_ca_pem = fs::read_to_string(state.controller().join("ca.pem")).ok();
            let is_ready = reason.is_empty();
            tell.send_if_modified(|controller| {
                let before = controller.clone();
                controller.status.ready = is_ready;
                controller.status.reason = reason;
                // Once there is one it stays the same, whatever becomes of the process.
                controller.root_ca_pem = root_ca_pem.or_else(|| controller.root_ca_pem.take());
                before != *controller
            });
            sleep(if is_ready { CALM } else { EAGER }).await;
        }
    };
    tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) => format!("the controller ended with {status}"),
            Err(error) => format!("waiting for the controller: {error}"),
        },
        () = looking => unreachable!("looking has no end"),
    }
}

/// Why the controller is not ready; empty if it is.
async fn look() -> String {
    match http::get_tcp(HEALTH, "/health/ready", http::Limits::default()).await {
        Ok(answer) if answer.status().is_success() => String::new(),
        Ok(answer) => format!("not ready: {}", String::from_utf8_lossy(answer.body()).trim()),
        Err(error) => format!("not ready: {error}"),
    }
}
