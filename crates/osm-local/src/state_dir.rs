//! Where a runner keeps what outlives its processes: `/run/osm-local/NAME`. Only root enters.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use osm_api::{NamespacedName, is_dns_label};
use serde::{Deserialize, Serialize};

const ROOT: &str = "/run/osm-local";

/// The folder of one runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    name: String,
    path: PathBuf,
}

/// What `runner.json` says: which process the runner is, as the machine counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerProcess {
    /// The process; the first one of the runner's pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did: numbers of processes are used again.
    pub start_ticks: u64,
}

/// A name that no folder can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a runner's name; use lower case letters, digits and '-', 63 at most")]
pub struct BadName(String);

impl StateDir {
    /// The folder of the runner of that name; it need not exist.
    ///
    /// # Errors
    /// When the name is not a DNS label.
    pub fn of(name: &str) -> Result<StateDir, BadName> {
        if !is_dns_label(name) {
            return Err(BadName(name.to_owned()));
        }
        Ok(StateDir { name: name.to_owned(), path: Path::new(ROOT).join(name) })
    }

    /// The runner's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the runner takes orders.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// What the runner logs.
    pub fn runner_log(&self) -> PathBuf {
        self.path.join("runner.log")
    }

    /// What the controller logs.
    pub fn controller_log(&self) -> PathBuf {
        self.path.join("controller.log")
    }

    /// What a container wrote.
    pub fn container_log(&self, pod: &NamespacedName, container: &str) -> PathBuf {
        self.pod_logs(pod).join(format!("{container}.log"))
    }

    /// What the containers of a pod wrote.
    pub(crate) fn pod_logs(&self, pod: &NamespacedName) -> PathBuf {
        self.path.join("logs").join(&pod.namespace).join(&pod.name)
    }

    /// What exists, for the controller; in memory that only the runner's own mount namespace shows.
    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The controller's own.
    pub(crate) fn controller(&self) -> PathBuf {
        self.path.join("controller")
    }

    /// The key that the runner signs tokens with, for the controller.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.path.join("token.key")
    }

    /// How a runner was asked to be.
    pub(crate) fn settings(&self) -> PathBuf {
        self.path.join("settings.json")
    }

    /// Empty for everybody else; in the runner's own mount namespace there is memory behind it.
    pub(crate) fn private(&self) -> PathBuf {
        self.path.join("private")
    }

    fn runner_file(&self) -> PathBuf {
        self.path.join("runner.json")
    }

    /// Makes the folder, if there is none, with `process` as the one it belongs to. False if there is one already.
    pub(crate) fn create(&self, process: &RunnerProcess) -> io::Result<bool> {
        DirBuilder::new().mode(0o700).recursive(true).create(ROOT)?;
        // Complete before it has its name, so that nobody finds it without an owner.
        let staging = Path::new(ROOT).join(format!(".{}.{}", self.name, process.pid));
        let _ = fs::remove_dir_all(&staging);
        DirBuilder::new().mode(0o700).create(&staging)?;
        for folder in ["objects", "logs", "controller", "private"] {
            DirBuilder::new().mode(0o700).create(staging.join(folder))?;
        }
        fs::write(staging.join("runner.json"), serde_json::to_vec(process)?)?;
        match fs::rename(&staging, &self.path) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                fs::remove_dir_all(&staging)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Says that the folder belongs to another process from now on.
    pub(crate) fn hand_over(&self, process: &RunnerProcess) -> io::Result<()> {
        let beside = self.path.join(".runner.json.new");
        fs::write(&beside, serde_json::to_vec(process)?)?;
        fs::rename(beside, self.runner_file())
    }

    /// The process that the folder belongs to, if it still runs.
    pub fn live_process(&self) -> Option<RunnerProcess> {
        self.recorded_process().filter(RunnerProcess::is_running)
    }

    /// The process that the folder belongs to, whether it runs or not.
    pub(crate) fn recorded_process(&self) -> Option<RunnerProcess> {
        serde_json::from_slice(&fs::read(self.runner_file()).ok()?).ok()
    }

    /// Removes the folder and all in it, if it is there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                // The last one out; others are in there otherwise.
                let _ = fs::remove_dir(ROOT);
                Ok(())
            }
        }
    }

    /// The names of all runners that have a folder.
    pub fn names() -> Vec<String> {
        let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| is_dns_label(name));
        names.sort();
        names
    }
}

impl RunnerProcess {
    /// This process, by the number that the mounted `/proc` gives it.
    pub(crate) fn of_this_process() -> io::Result<RunnerProcess> {
        let link = fs::read_link("/proc/self")?;
        let pid = link.to_string_lossy().parse().map_err(io::Error::other)?;
        let start_ticks = stat(pid).ok_or_else(|| io::Error::other("/proc/self/stat cannot be read"))?.1;
        Ok(RunnerProcess { pid, start_ticks })
    }

    /// Whether it runs. A process that has ended and is only waited for does not.
    pub fn is_running(&self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, start_ticks)| start_ticks == self.start_ticks && !matches!(state, 'Z' | 'X'))
    }
}

/// State and start of a process, from `/proc/PID/stat` (proc_pid_stat(5), fields 3 and 22).
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, spaces and parentheses too; the rest follows its last parenthesis.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_one_of_its_number_that_started_earlier_does_not() {
        let own = RunnerProcess::of_this_process().unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(own.is_running());
        assert!(!RunnerProcess { start_ticks: own.start_ticks - 1, ..own }.is_running());
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        assert_eq!(StateDir::of("osm").unwrap().path(), Path::new("/run/osm-local/osm"));
        for bad in ["", "../x", "a/b", "A", ".hidden", &"a".repeat(64)] {
            assert!(StateDir::of(bad).is_err(), "{bad}");
        }
    }
}
