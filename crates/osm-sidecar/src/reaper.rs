//! The duty of process 1 of a container: every orphan becomes its child and stays a zombie until it is waited for.
//!
//! tokio waits for our own children by their ids; this waits for all others. The two must not wait for the same one,
//! so children are started here, under one lock with the reaping.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The children that somebody waits for.
#[derive(Clone, Debug, Default)]
pub struct Children {
    own: Arc<Mutex<BTreeSet<i32>>>,
    gone: Arc<Notify>,
}

/// A child that is waited for by its starter; forgotten when dropped, so drop it after the wait.
#[derive(Debug)]
pub struct OwnChild {
    /// The process.
    pub process: Child,
    pid: i32,
    of: Children,
}

impl Children {
    /// Starts a process that the reaper will leave alone.
    pub fn spawn(&self, command: &mut Command) -> io::Result<OwnChild> {
        let mut own = self.lock();
        let process = command.spawn()?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::Other)?;
        own.insert(pid);
        Ok(OwnChild { process, pid, of: self.clone() })
    }

    /// Waits for orphans until `stop`. To be run by process 1 only: any other process has no orphans.
    pub async fn reap(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut child_ended = signal(SignalKind::child()).context("listening for SIGCHLD")?;
        loop {
            self.reap_ended();
            tokio::select! {
                _ = child_ended.recv() => {}
                // A zombie of ours hides those behind it until its starter has waited for it.
                () = self.gone.notified() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Waits for all orphans that have ended; how many they were.
    pub fn reap_ended(&self) -> usize {
        let own = self.lock();
        let mut reaped = 0;
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, look) {
            let Some(pid) = ended(status).filter(|pid| !own.contains(&pid.as_raw())) else { break };
            if waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
                break;
            }
            tracing::debug!(pid = pid.as_raw(), "reaped an orphan");
            reaped += 1;
        }
        reaped
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        self.of.lock().remove(&self.pid);
        self.of.gone.notify_one();
    }
}

fn ended(status: WaitStatus) -> Option<Pid> {
    match status {
        WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => Some(pid),
        _ => None,
    }
}
