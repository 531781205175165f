//! The shape `merged`: one process that installs the rules, gives up every right for good, and becomes the agent.
//!
//! The kubelet starts the next container when [`wait_until_installed`], which it runs beside, has come back. A mark says
//! so, by the number and the birth of the process that left it: a mark of an earlier life does not count, because with
//! the pod's sandbox the rules may be gone as well.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use caps::{CapSet, Capability};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, getgroups, getpid, setgid, setgroups, setuid};
use osm_runtime::clock;
use tokio::time::sleep;

use crate::proc::stat_words;

/// The mark's file in the state directory, which only the sidecar mounts.
const MARK: &str = "installed";

/// Between two looks for the mark. Installing takes 10 to 30 ms.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Says that this process has installed the rules.
pub fn mark_installed(state_dir: &Path) -> anyhow::Result<()> {
    let pid = getpid().as_raw();
    let birth = birth_of(pid).context("reading this process's birth in /proc")?;
    let (beside, mark) = (state_dir.join(".installed.new"), state_dir.join(MARK));
    fs::write(&beside, format!("{pid} {birth}")).with_context(|| format!("writing {}", beside.display()))?;
    fs::set_permissions(&beside, Permissions::from_mode(0o644)).context("letting the sidecar's user read it")?;
    fs::rename(&beside, &mark).with_context(|| format!("writing {}", mark.display()))
}

/// Comes back when a process that lives has installed the rules.
///
/// # Errors
/// When none has within `limit`: then nothing more of the pod may start.
pub async fn wait_until_installed(state_dir: &Path, limit: Duration) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + limit;
    while !is_installed(state_dir) {
        if clock::monotonic() >= deadline {
            bail!(
                "the redirection is not in place after {limit:?}, so nothing more of this pod is started; \
                 the log of this container says why"
            );
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn is_installed(state_dir: &Path) -> bool {
    let said = fs::read_to_string(state_dir.join(MARK)).unwrap_or_default();
    let Some((pid, birth)) = said.split_once(' ') else { return false };
    pid.parse().is_ok_and(|pid| birth_of(pid).as_deref() == Some(birth))
}

/// When a process was born, in the kernel's ticks; none if there is no such process.
fn birth_of(pid: i32) -> Option<String> {
    stat_words(format!("/proc/{pid}")).into_iter().nth(19)
}

/// Becomes the agent under `uid`, with no right that it or any of its children could get back. Only comes back if that
/// fails.
pub fn become_agent(uid: u32) -> anyhow::Result<Infallible> {
    // By its path: once the rights are gone, /proc/self may be closed to this process.
    let program: PathBuf = std::env::current_exe().context("finding this program")?;
    open_output(std::io::stdout().as_fd())?;
    open_output(std::io::stderr().as_fd())?;
    give_up_rights(uid)?;
    let error = Command::new(&program).arg("agent").exec();
    Err(error).with_context(|| format!("starting {} as the agent", program.display()))
}

/// Envoy opens /dev/stdout anew for its access log, and the pipe belongs to whom the container was started as.
fn open_output(output: BorrowedFd<'_>) -> anyhow::Result<()> {
    let status = fstat(output).context("looking at this process's output")?;
    // Without the bits that say what kind of file it is.
    let mode = Mode::from_bits_truncate(status.st_mode);
    let is_pipe = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO;
    let is_ours = status.st_uid == nix::unistd::geteuid().as_raw();
    if is_pipe && is_ours {
        fchmod(output, mode | Mode::S_IWOTH).context("letting the sidecar's user write to this process's output")?;
    }
    Ok(())
}

/// Gives up all capabilities, the means to get any, and the user and group of root.
fn give_up_rights(uid: u32) -> anyhow::Result<()> {
    let mut held: Vec<Capability> =
        caps::read(None, CapSet::Bounding).context("reading capabilities")?.into_iter().collect();
    held.sort_by_key(Capability::index);
    for capability in held {
        caps::drop(None, CapSet::Bounding, capability).with_context(|| format!("giving up {capability} for good"))?;
    }
    caps::clear(None, CapSet::Ambient).context("giving up ambient capabilities")?;
    caps::clear(None, CapSet::Inheritable).context("giving up inheritable capabilities")?;
    set_no_new_privs().context("giving up new privileges")?;
    // Those of the pod stay, because the token may be readable by them alone (fsGroup).
    let groups: Vec<Gid> = getgroups().context("reading the groups")?.into_iter().filter(|g| g.as_raw() != 0).collect();
    setgroups(&groups).context("setting the groups")?;
    setgid(Gid::from_raw(uid)).context("setting the group")?;
    setuid(Uid::from_raw(uid)).context("setting the user")?;
    for set in [CapSet::Bounding, CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
        let left = caps::read(None, set).with_context(|| format!("reading the {set:?} capabilities"))?;
        ensure!(left.is_empty(), "{} {set:?} capabilities are left; the agent does not start with them", left.len());
    }
    ensure!(setuid(Uid::from_raw(0)).is_err(), "this process could become root again; the agent does not start so");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn only_the_mark_of_a_process_that_lives_counts() {
        let scratch = Scratch::new("merged-mark");
        let dir = scratch.path();
        assert!(wait_until_installed(dir, SOON).await.unwrap_err().to_string().contains("nothing more of this pod"));
        mark_installed(dir).unwrap();
        wait_until_installed(dir, SOON).await.unwrap();

        let mut ended = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(ended.id()).unwrap();
        let birth = birth_of(pid).unwrap();
        let mark = |text: String| fs::write(dir.join(MARK), text).unwrap();
        mark(format!("{pid} {birth}"));
        wait_until_installed(dir, SOON).await.unwrap();
        // The same number, born at another time.
        mark(format!("{pid} 1{birth}"));
        assert!(wait_until_installed(dir, SOON).await.is_err());
        ended.kill().unwrap();
        ended.wait().unwrap();
        mark(format!("{pid} {birth}"));
        assert!(wait_until_installed(dir, SOON).await.is_err());
        mark("nonsense".to_owned());
        assert!(wait_until_installed(dir, SOON).await.is_err());
    }
}
