//! The program itself beside a controller of the test: killed and started again in the same directory, on the same ports,
//! as the kubelet does with a container.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use osm_runtime::http::{Limits, get_tcp};
use osm_sidecar::last_good::{self, LastGoodState};
use osm_testkit::envoy;
use osm_xds::Resources;
use serde_json::Value;

use crate::controller::{self, Controller};
use crate::lab::{DEADLINE, Lab, free_port, text, until};
use crate::process::{Dir, PROGRAM, envoy_of};
use crate::resources::Ports;

pub(crate) struct Sidecar {
    pub(crate) controller: Controller,
    pub(crate) ports: Ports,
    status: u16,
    admin: u16,
    metrics: u16,
    running: Option<Child>,
    dir: Dir,
}

impl Sidecar {
    /// A sidecar that is programmed, and whose last good state is kept.
    pub(crate) async fn programmed(name: &str, resources: impl FnOnce(Ports) -> Resources) -> Sidecar {
        let mut sidecar = Sidecar::prepare(name, resources).await;
        sidecar.start(&[], &[]);
        sidecar.until_it_says("programmed\n");
        until(DEADLINE, async || sidecar.last_good().exists());
        sidecar
    }

    /// Not started.
    pub(crate) async fn prepare(name: &str, resources: impl FnOnce(Ports) -> Resources) -> Sidecar {
        let (controller, ports) = Lab::prepare(|ports| Some(resources(ports))).await;
        let dir = Dir::new(name);
        std::fs::write(dir.0.join("token"), controller::TOKEN).unwrap();
        // As an emptyDir is: everybody may write.
        let state = dir.0.join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
        let (status, admin, metrics) = (free_port(), free_port(), free_port());
        Sidecar { controller, ports, status, admin, metrics, running: None, dir }
    }

    /// Starts it, with `before` in front of the program and with these settings.
    pub(crate) fn start(&mut self, before: &[&str], settings: &[(&str, &str)]) {
        let program = self.dir.open(Path::new(PROGRAM));
        let words: Vec<&str> = before.iter().copied().chain([program.to_str().unwrap(), "agent"]).collect();
        let mut command = Command::new(words[0]);
        let log = std::fs::File::options().create(true).append(true).open(self.dir.0.join("log")).unwrap();
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env("POD_NAME", "client-0").env("POD_NAMESPACE", "shop").env("POD_UID", "uid-0");
        command.env("SERVICE_ACCOUNT", "client").env("OSM_CONTROLLER", self.controller.address.to_string());
        command.env("OSM_CONTROLLER_NAME", controller::NAME).env("OSM_ENVOY", self.dir.open(&envoy()));
        command.env("OSM_ROOT_CA", self.controller.certificates.authority.cert_pem());
        command.env("OSM_STATE_DIR", self.dir.0.join("state")).env("OSM_TOKEN_FILE", self.token_file());
        for (name, port) in [
            ("OSM_STATUS_LISTEN", self.status),
            ("OSM_ADMIN_LISTEN", self.admin),
            ("OSM_METRICS_LISTEN", self.metrics),
            ("OSM_OUTBOUND_LISTEN", self.ports.outbound),
            ("OSM_INBOUND_LISTEN", self.ports.inbound),
        ] {
            command.env(name, format!("127.0.0.1:{port}"));
        }
        command.envs(settings.iter().copied());
        self.running = Some(command.spawn().unwrap());
    }

    /// Kills the agent and, as the end of process 1 does, its Envoy.
    pub(crate) fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let envoy = envoy_of(running.id());
        running.kill().unwrap();
        running.wait().unwrap();
        if let Some(envoy) = envoy {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(envoy), nix::sys::signal::Signal::SIGKILL);
            osm_testkit::eventually(DEADLINE, || is_over(envoy));
        }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.0.join("token")
    }

    /// The file, wherever the agent has made its private directory.
    pub(crate) fn last_good(&self) -> PathBuf {
        let state = self.dir.0.join("state");
        let private = state.join("agent/last-good.state");
        if private.exists() { private } else { state.join("last-good.state") }
    }

    /// Changes the state that is kept.
    pub(crate) fn rewrite(&self, change: impl FnOnce(&mut LastGoodState)) {
        let mut state = last_good::decode(&std::fs::read(self.last_good()).unwrap()).unwrap();
        change(&mut state);
        std::fs::write(self.last_good(), last_good::encode(&state).unwrap()).unwrap();
    }

    /// What the log has of the last good state.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.0.join("log")).unwrap()
    }

    /// What the readiness page says.
    pub(crate) async fn ready(&self) -> String {
        let answer = get_tcp(self.address(self.status), "/osm-sidecar/ready", Limits::default()).await;
        answer.map_or_else(|error| error.to_string(), |answer| text(&answer))
    }

    pub(crate) fn until_it_says(&self, words: &str) {
        until(DEADLINE, async || match self.ready().await {
            said if said.contains(words) => Ok(()),
            said => Err(format!("{words:?} is not said: {said}; log:\n{}", self.log())),
        });
    }

    pub(crate) async fn startup(&self) -> Value {
        let answer = get_tcp(self.address(self.status), "/osm-sidecar/startup", Limits::default()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap()
    }

    pub(crate) async fn config_dump(&self) -> String {
        text(&get_tcp(self.address(self.admin), "/config_dump", Limits::default()).await.unwrap())
    }

    /// The status and the text of a request of the application through the mesh to itself.
    pub(crate) async fn request(&self) -> Result<(u16, String), String> {
        let limits = Limits { timeout: Duration::from_secs(5), ..Limits::default() };
        let answer =
            get_tcp(self.address(self.ports.outbound), "/", limits).await.map_err(|error| error.to_string())?;
        Ok((answer.status().as_u16(), text(&answer)))
    }

    pub(crate) fn until_served(&self) {
        until(DEADLINE, async || {
            let answer = self.request().await;
            if answer == Ok((200, "hello".to_owned())) { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    fn address(&self, port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_over(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}
