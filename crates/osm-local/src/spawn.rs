//! Starting processes in other namespaces. A thread of its own enters or makes the namespaces and gives birth; the
//! child is in all of them from its first instruction, and the thread ends with what it had changed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Uid, fchown};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::network::PodNamespaces;

/// This program, whatever has become of its file since it was started.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// A container that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) pid: u32,
    /// What it writes to standard output and standard error.
    pub(crate) output: pipe::Receiver,
}

/// Starts the container that `spec_file` describes in the pod's namespaces, and new ones for its processes and mounts.
pub(crate) async fn start_container(pod: Arc<PodNamespaces>, spec_file: PathBuf, uid: u32) -> anyhow::Result<Started> {
    let (sender, output) = pipe::pipe().context("making a pipe for the output")?;
    let writer = sender.into_blocking_fd().context("making a pipe for the output")?;
    // Programs open /dev/stdout anew, and need to be allowed to.
    fchown(&writer, Some(Uid::from_raw(uid)), None).context("giving the output to the container's user")?;
    let second_writer = writer.try_clone().context("making a pipe for the output")?;
    let runtime = tokio::runtime::Handle::current();
    let (result, child) = oneshot::channel();
    let birth = move || -> anyhow::Result<Child> {
        setns(&pod.net, CloneFlags::CLONE_NEWNET).context("entering the pod's network")?;
        setns(&pod.ipc, CloneFlags::CLONE_NEWIPC).context("entering the pod's ipc namespace")?;
        setns(&pod.uts, CloneFlags::CLONE_NEWUTS).context("entering the pod's uts namespace")?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).context("making the container's namespaces")?;
        let _entered = runtime.enter();
        command(&spec_file).stdout(writer).stderr(second_writer).spawn().context("starting the container")
    };
    let thread = move || {
        let _ = result.send(birth());
    };
    std::thread::Builder::new().name("container-start".into()).spawn(thread).context("starting a thread")?;
    let child = child.await.map_err(|_| anyhow!("the thread that starts the container ended"))??;
    let pid = child.id().context("the container's process has a number until it is waited for")?;
    Ok(Started { child, pid, output })
}

fn command(spec_file: &Path) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg(crate::hidden::CONTAINER).arg(spec_file).stdin(Stdio::null());
    command
}
