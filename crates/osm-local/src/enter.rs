//! Entering a running container, or the runner's own namespaces, from outside: `osm local exec`.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::container::become_process;
use crate::process::ProcessSpec;
use crate::spawn::OWN_PROGRAM;
use crate::state_dir::RunnerProcess;

/// What a process enters before it is born. The mount namespace comes last, by itself: the program is found without it.
pub(crate) const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("pid", CloneFlags::CLONE_NEWPID),
];

/// What to become, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    mount_namespace: PathBuf,
    process: ProcessSpec,
}

/// Runs a process in the namespaces of another, with this process's standard input and outputs, and gives back its
/// exit code. `target` counts in the runner's pid namespace; the runner's first process is 1.
///
/// # Errors
/// When the target is gone, or the process cannot be started.
pub(crate) fn run_in(runner: &RunnerProcess, target: u32, process: ProcessSpec) -> anyhow::Result<u8> {
    // The runner's own /proc, seen from outside: there the target has the number that the runner knows.
    let namespaces = PathBuf::from(format!("/proc/{}/root/proc/{target}/ns", runner.pid));
    let mut description = File::from(memfd_create(c"osm-enter", MFdFlags::empty()).context("making a memory file")?);
    description.write_all(&self::description(namespaces.join("mnt"), process)?).context("describing the process")?;
    let description_path = format!("/proc/self/fd/{}", description.as_raw_fd());
    // The thread waits too: the child is told to end with the thread that gave birth to it.
    let thread = std::thread::spawn(move || -> anyhow::Result<std::process::ExitStatus> {
        for (kind, flag) in NAMESPACES {
            let file = File::open(namespaces.join(kind)).context("the container has ended")?;
            setns(file, flag).with_context(|| format!("entering the {kind} namespace"))?;
        }
        let mut child = Command::new(OWN_PROGRAM)
            .args([crate::hidden::ENTER, &description_path])
            .spawn()
            .context("starting the process")?;
        child.wait().context("waiting for the process")
    });
    let status = thread.join().map_err(|_| anyhow!("the thread that enters the namespaces panicked"))??;
    drop(description);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// What [`become_entered`] reads.
pub(crate) fn description(mount_namespace: PathBuf, process: ProcessSpec) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(&Entry { mount_namespace, process }).context("describing the process")
}

/// Becomes the process. Only comes back if that fails.
pub(crate) fn become_entered(description: &Path) -> anyhow::Result<Infallible> {
    let text = fs::read(description).context("reading what to become")?;
    let entry: Entry = serde_json::from_slice(&text).context("reading what to become")?;
    if entry.process.command.is_empty() {
        bail!("the command is empty");
    }
    let namespace = File::open(&entry.mount_namespace).context("the container has ended")?;
    setns(namespace, CloneFlags::CLONE_NEWNS).context("entering the mount namespace")?;
    become_process(&entry.process)
}
