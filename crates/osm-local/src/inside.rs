//! Running something more in a container that runs: commands of probes and hooks.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::sched::setns;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::enter;
use crate::process::ProcessSpec;
use crate::spawn::OWN_PROGRAM;

/// Between two looks whether a container is made, which takes some 10 ms.
const MAKING_INTERVAL: Duration = Duration::from_millis(2);

/// A container that runs.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    /// Its first process, as the runner counts.
    pub(crate) pid: u32,
    /// What that process is: a command in the container is the same but for what it runs.
    pub(crate) process: ProcessSpec,
    /// Where descriptions may be written that nobody else reads.
    pub(crate) folder: PathBuf,
}

impl Inside {
    /// Runs a command and says whether it ended with 0 within `patience`; later it is killed.
    pub(crate) async fn succeeds(&self, command: &[String], patience: Duration) -> bool {
        match timeout(patience, self.run(command)).await {
            Ok(Ok(is_success)) => is_success,
            Ok(Err(error)) => {
                tracing::debug!(error = format!("{error:#}"), "a command cannot be run in a container");
                false
            }
            Err(_) => false,
        }
    }

    async fn run(&self, command: &[String]) -> anyhow::Result<bool> {
        self.until_made().await?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = ProcessSpec { command: command.to_vec(), ..self.process.clone() };
        let namespaces = PathBuf::from(format!("/proc/{}/ns", self.pid));
        let description = Description(self.folder.join(format!("inside-{number}.json")));
        fs::write(&description.0, enter::description(namespaces.join("mnt"), process)?)
            .context("describing the command")?;
        let status =
            self.give_birth(namespaces, &description).await?.wait().await.context("waiting for the command")?;
        Ok(status.success())
    }

    /// Before its first process has become the program that the container is for, its root is not furnished.
    async fn until_made(&self) -> anyhow::Result<()> {
        loop {
            let line = fs::read(format!("/proc/{}/cmdline", self.pid)).context("the container has ended")?;
            // For a moment in the middle of becoming another program, a process has no words at all.
            let is_being_made = line.split(|byte| *byte == 0).nth(1) == Some(crate::hidden::CONTAINER.as_bytes());
            if !line.is_empty() && !is_being_made {
                return Ok(());
            }
            sleep(MAKING_INTERVAL).await;
        }
    }

    /// On a thread of its own, which enters the namespaces and ends with them. The child dies with its handle.
    async fn give_birth(&self, namespaces: PathBuf, description: &Description) -> anyhow::Result<Child> {
        let path = description.0.clone();
        let runtime = tokio::runtime::Handle::current();
        let (result, child) = oneshot::channel();
        let birth = move || -> anyhow::Result<Child> {
            for (kind, flag) in enter::NAMESPACES {
                let file = File::open(namespaces.join(kind)).context("the container has ended")?;
                setns(file, flag).with_context(|| format!("entering the {kind} namespace"))?;
            }
            let _entered = runtime.enter();
            let mut command = Command::new(OWN_PROGRAM);
            command.arg(crate::hidden::ENTER).arg(path).kill_on_drop(true);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().context("starting the command")
        };
        let thread = move || {
            // Whoever asked may have lost patience; then the child ends here.
            let _ = result.send(birth());
        };
        std::thread::Builder::new().name("container-enter".into()).spawn(thread).context("starting a thread")?;
        child.await.map_err(|_| anyhow!("the thread that starts the command ended"))?
    }
}

/// A file that goes with its command: it holds the container's variables.
struct Description(PathBuf);

impl Drop for Description {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
