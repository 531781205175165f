//! The runner from outside: bringing it up, speaking to it, taking it down.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use osm_api::NamespacedName;
use osm_runtime::clock;
use tokio::time::sleep;

use crate::addresses::IpFamilies;
use crate::control::{Changes, ManifestText, Request, Response, ask};
use crate::images::Images;
use crate::process::ProcessSpec;
use crate::runner::Settings;
use crate::spawn::OWN_PROGRAM;
use crate::state_dir::{RunnerProcess, StateDir};
use crate::status::Status;
use crate::{enter, supervise};

/// Making a network and reading the first objects takes a fraction of a second.
const UP_LIMIT: Duration = Duration::from_secs(20);
/// The kernel takes its time to end hundreds of processes and namespaces.
const DOWN_LIMIT: Duration = Duration::from_secs(30);
/// A runner that does not end by itself within this time is killed.
const PATIENCE: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_millis(5);

/// One runner, by its name.
#[derive(Clone, Debug)]
pub struct Local {
    state: StateDir,
}

/// What came of bringing up a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// It is new.
    Started,
    /// It ran already.
    AlreadyUp,
}

/// What came of taking down a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It ran, and all that it started is gone.
    Stopped,
    /// It had ended before; what it left was removed.
    Removed,
    /// There is no runner of that name.
    NotThere,
}

/// What cannot be done, and what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Local {
    /// The runner of that name, whether it runs or not.
    ///
    /// # Errors
    /// When no runner can have the name.
    pub fn named(name: &str) -> anyhow::Result<Local> {
        Ok(Local { state: StateDir::of(name)? })
    }

    /// Its folder.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Starts the runner, if it does not run, and waits until it can be asked. What an earlier one of the same name
    /// left is removed. This program must call [`crate::run_hidden`] first thing in `main`.
    ///
    /// # Errors
    /// Without root's rights, or when the runner cannot start; its log is in the error.
    pub async fn up(&self, images: Images, families: IpFamilies) -> anyhow::Result<Up> {
        need_root()?;
        loop {
            if let Some(process) = self.state.live_process() {
                if self.answers(&process).await? {
                    return Ok(Up::AlreadyUp);
                }
                // It has ended meanwhile.
                continue;
            }
            self.state.remove().context("removing what an earlier runner left")?;
            if self.state.create(&RunnerProcess::of_this_process()?).context("making the runner's folder")? {
                break;
            }
        }
        let started = match self.start(images, families) {
            Ok(child) => self.until_it_answers(child).await,
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            let log = fs::read_to_string(self.state.runner_log()).unwrap_or_default();
            self.down().await?;
            let hint = if log.is_empty() { String::new() } else { format!("the runner said:\n{}", log.trim_end()) };
            return Err(Failure { message: format!("{error:#}"), hint }.into());
        }
        Ok(Up::Started)
    }

    /// Ends the runner and waits until everything it started is gone.
    ///
    /// # Errors
    /// When something does not end.
    pub async fn down(&self) -> anyhow::Result<Down> {
        need_root()?;
        let outcome = match self.state.live_process() {
            Some(process) if process.pid != std::process::id() => {
                self.end(&process).await?;
                Down::Stopped
            }
            _ if self.state.path().exists() => Down::Removed,
            _ => return Ok(Down::NotThere),
        };
        self.state.remove().context("removing the runner's folder")?;
        Ok(outcome)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When the runner cannot be asked. Problems with objects are in the answer.
    pub async fn apply(&self, files: Vec<ManifestText>) -> anyhow::Result<Changes> {
        match self.ask(&Request::Apply { files }).await? {
            Response::Changed(changes) => Ok(changes),
            other => Err(unexpected(other)),
        }
    }

    /// Deletes the objects of manifests.
    ///
    /// # Errors
    /// When the runner cannot be asked. Problems with objects are in the answer.
    pub async fn delete(&self, files: Vec<ManifestText>) -> anyhow::Result<Changes> {
        match self.ask(&Request::Delete { files }).await? {
            Response::Changed(changes) => Ok(changes),
            other => Err(unexpected(other)),
        }
    }

    /// How everything is.
    ///
    /// # Errors
    /// When the runner cannot be asked.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.status_as(Request::Status { ask_sidecars: false }).await
    }

    /// How everything is, with what each sidecar says of its own start at this moment.
    ///
    /// # Errors
    /// When the runner cannot be asked.
    pub async fn status_with_sidecars(&self) -> anyhow::Result<Status> {
        self.status_as(Request::Status { ask_sidecars: true }).await
    }

    /// Runs a command in a container with this process's standard input and outputs, and gives back its exit code.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    pub async fn exec(
        &self,
        pod: NamespacedName,
        container: Option<String>,
        command: Vec<String>,
    ) -> anyhow::Result<u8> {
        match self.ask(&Request::Exec { pod, container, command }).await? {
            Response::Exec { pid, process } => {
                let runner = self.live()?;
                tokio::task::spawn_blocking(move || enter::run_in(&runner, pid, *process)).await?
            }
            other => Err(unexpected(other)),
        }
    }

    /// Runs a command in the router's namespaces, where packets of all pods pass and all processes are seen.
    ///
    /// # Errors
    /// When the runner does not run.
    pub async fn exec_node(&self, command: Vec<String>) -> anyhow::Result<u8> {
        need_root()?;
        let runner = self.live()?;
        let process = ProcessSpec {
            command,
            env: std::env::vars().collect(),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            uid: 0,
            gid: 0,
            groups: Default::default(),
            capabilities: None,
            has_no_new_privileges: false,
            ends_with_parent: true,
        };
        tokio::task::spawn_blocking(move || enter::run_in(&runner, 1, process)).await?
    }

    async fn status_as(&self, request: Request) -> anyhow::Result<Status> {
        match self.ask(&request).await? {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<Response> {
        need_root()?;
        self.live()?;
        ask(&self.state.control_socket(), request).await
    }

    fn live(&self) -> Result<RunnerProcess, Failure> {
        self.state.live_process().ok_or_else(|| {
            let name = self.state.name();
            let others: Vec<String> = StateDir::names().into_iter().filter(|other| other != name).collect();
            let hint = match others.as_slice() {
                [] => format!("bring it up: osm local up --name {name} -f MANIFESTS"),
                others => format!("bring it up, or use --name with one of: {}", others.join(", ")),
            };
            Failure { message: format!("no runner {name} is up"), hint }
        })
    }

    fn start(&self, images: Images, families: IpFamilies) -> anyhow::Result<Child> {
        let beside = |name: &str| Some(supervise::beside_own(name)).filter(|path| path.exists());
        let (controller, sidecar) = (supervise::program(), beside("osm-sidecar"));
        let settings = Settings { images, controller, sidecar, envoy: envoy(), families };
        fs::write(self.state.settings(), serde_json::to_vec(&settings)?).context("writing settings.json")?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.state.runner_log());
        let log = log.context("opening the runner's log")?;
        let again = log.try_clone().context("opening the runner's log twice")?;
        let name = self.state.name().to_owned();
        // Namespaces belong to threads: this one ends, and nothing of this process has changed.
        let thread = std::thread::spawn(move || -> anyhow::Result<Child> {
            let flags = CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC;
            unshare(flags).context("making the runner's namespaces")?;
            Command::new(OWN_PROGRAM)
                .args([crate::hidden::FIRST_PROCESS, &name])
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(again)
                .spawn()
                .context("starting the runner")
        });
        thread.join().map_err(|_| anyhow!("the thread that starts the runner panicked"))?
    }

    /// Whether a runner of an earlier `up` answers; not if it ends. One that was killed ends only when the kernel has
    /// ended all its processes, and looks alive until then.
    async fn answers(&self, process: &RunnerProcess) -> anyhow::Result<bool> {
        let deadline = clock::monotonic() + UP_LIMIT;
        while process.is_running() {
            if self.status().await.is_ok() {
                return Ok(true);
            }
            if clock::monotonic() >= deadline {
                let name = self.state.name();
                let message = format!("runner {name} is up, but has not answered for {UP_LIMIT:?}");
                return Err(Failure { message, hint: format!("take it down: osm local down --name {name}") }.into());
            }
            sleep(INTERVAL).await;
        }
        Ok(false)
    }

    async fn until_it_answers(&self, mut runner: Child) -> anyhow::Result<()> {
        let deadline = clock::monotonic() + UP_LIMIT;
        let socket = self.state.control_socket();
        while ask(&socket, &Request::Status { ask_sidecars: false }).await.is_err() {
            if let Some(status) = runner.try_wait().context("looking after the runner")? {
                return Err(anyhow!("the runner ended with {status}"));
            }
            if clock::monotonic() >= deadline {
                return Err(anyhow!("the runner did not answer within {UP_LIMIT:?}"));
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    async fn end(&self, process: &RunnerProcess) -> anyhow::Result<()> {
        // It may be past answering; then it is killed below.
        let socket = self.state.control_socket();
        let asked = ask(&socket, &Request::Shutdown);
        let was_asked = tokio::time::timeout(PATIENCE, asked).await.is_ok_and(|answer| answer.is_ok());
        let start = clock::monotonic();
        let mut is_killed = false;
        while process.is_running() {
            let waited = start.elapsed();
            if !is_killed && (!was_asked || waited > PATIENCE) {
                let pid = i32::try_from(process.pid).context("a process number fits")?;
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                is_killed = true;
            }
            if waited > DOWN_LIMIT {
                return Err(anyhow!("process {} does not end, though it was killed", process.pid));
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }
}

fn need_root() -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    let message = "osm local makes network namespaces, which only root may do".to_owned();
    Err(Failure { message, hint: "run it as root, for example with sudo".to_owned() })
}

/// Envoy, as the environment says, or beside this program, or in the workspace that built it, or on the PATH.
fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("OSM_ENVOY").map(PathBuf::from);
    let near = [supervise::beside_own("envoy"), supervise::beside_own("../../build/tools/envoy")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("envoy"));
    let mut all = named.into_iter().chain(near).chain(on_path);
    all.find(|file| file.is_file()).and_then(|file| file.canonicalize().ok())
}

fn unexpected(response: Response) -> anyhow::Error {
    match response {
        Response::Refused { message, hint } => Failure { message, hint }.into(),
        other => anyhow!("the runner answered something else: {other:?}"),
    }
}
