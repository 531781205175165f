//! The first process of a runner's pid namespace. It furnishes the mount namespace, starts the runner, and takes care
//! of orphans. When it ends, however it ends, the kernel ends everything that the runner ever started.

use std::fs;
use std::process::Command;

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::spawn::OWN_PROGRAM;
use crate::state_dir::{RunnerProcess, StateDir};

const NOTHING: Option<&str> = None;

/// Runs until the runner ends, or this process is told to.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    let state = StateDir::of(name)?;
    // Away from the terminal that it was started from, so that no key pressed there reaches it.
    setsid().context("leaving the session")?;
    let process = RunnerProcess::of_this_process().context("finding this process in /proc")?;
    state.hand_over(&process).context("writing runner.json")?;
    furnish(&state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        // Before the first child, so that no end is missed.
        let ended = signal(SignalKind::child()).context("listening for ends of processes")?;
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let runner =
            Command::new(OWN_PROGRAM).args([crate::hidden::RUNNER, name]).spawn().context("starting the runner")?;
        reap_until_end(runner.id(), ended, terminate).await
    })
}

/// Mounts of this namespace: nothing of it is seen outside, and nothing that changes outside disturbs it.
fn furnish(state: &StateDir) -> anyhow::Result<()> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context("making mounts private")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, NOTHING).context("mounting /proc")?;
    let private = state.private();
    // Ten thousand small files are written in a moment in memory; on a disk that takes ten seconds.
    for folder in [&private, &state.objects()] {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::MS_NODEV, Some("mode=0700"))
            .with_context(|| format!("mounting a tmpfs on {}", folder.display()))?;
    }
    for folder in ["pods", "scratch"] {
        fs::create_dir(private.join(folder)).with_context(|| format!("creating {folder}"))?;
    }
    Ok(())
}

async fn reap_until_end(runner: u32, mut ended: Signal, mut terminate: Signal) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = ended.recv() => {}
            _ = terminate.recv() => return Ok(()),
        }
        // One signal may stand for many ends.
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            let is_runner = status.pid().is_some_and(|pid| u32::try_from(pid.as_raw()) == Ok(runner));
            if is_runner && matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                return Ok(());
            }
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
}
