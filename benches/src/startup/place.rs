//! Where pods are started: in `osm local`, or on the cluster of `scripts/cluster`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use osm_testkit::in_checkout;
use serde_json::Value;

use super::{line_of, surroundings};
use crate::mesh::{Mesh, success};

/// Longer than any pod takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks. Each starts a process, which must not take the processors from what is measured.
const INTERVAL: Duration = Duration::from_millis(500);

/// A mesh in which pods are made.
pub(super) enum Place {
    Local(Mesh),
    Cluster(Namespaces),
}

impl Place {
    pub(super) fn up(is_cluster: bool) -> Result<Place> {
        if !is_cluster {
            return Ok(Place::Local(Mesh::up(&surroundings())?));
        }
        let place = Place::Cluster(Namespaces::new()?);
        let file = place.write("surroundings.yaml", &surroundings())?;
        place.make(&file)?;
        for namespace in ["bench", "bench-plain"] {
            success(kubectl(&["wait", "pod/server", "-n", namespace, "--for=condition=Ready", "--timeout=60s"])?)?;
        }
        Ok(place)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Place::Local(_) => "on the local driver",
            Place::Cluster(_) => "on a real kubelet",
        }
    }

    pub(super) fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        match self {
            Place::Local(mesh) => mesh.write(file, content),
            Place::Cluster(namespaces) => {
                let path = namespaces.folder.join(file);
                let content = content.replace("image: osm-demo", "image: openservicemesh/osm-demo:latest-main");
                fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
                Ok(path)
            }
        }
    }

    pub(super) fn make(&self, file: &Path) -> Result<()> {
        match self {
            Place::Local(mesh) => mesh.apply(file),
            Place::Cluster(_) => success(kubectl(&["create", "-f", &file.to_string_lossy()])?).map(drop),
        }
    }

    /// What the application of a pod says about its first answer, as soon as it has one.
    pub(super) fn wait_for_line(&self, namespace: &str, pod: &str) -> Result<Value> {
        let begun = Instant::now();
        loop {
            park_timeout(INTERVAL);
            match self.logs(namespace, pod).and_then(|logs| line_of(&logs)) {
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
                found => return found,
            }
        }
    }

    fn logs(&self, namespace: &str, pod: &str) -> Result<String> {
        match self {
            Place::Local(mesh) => {
                let mut command = mesh.osm("logs")?;
                command.args([&format!("{namespace}/{pod}"), "-c", "main"]);
                success(command)
            }
            Place::Cluster(_) => success(kubectl(&["logs", "-n", namespace, pod, "-c", "main"])?),
        }
    }

    /// Deletes pods, and waits until they are gone: what ends them must not disturb the next.
    pub(super) fn take_away(&self, pods: &str) -> Result<()> {
        let file = self.write("away.yaml", pods)?;
        match self {
            Place::Local(mesh) => {
                let mut command = mesh.osm("delete")?;
                command.arg("-f").arg(file);
                success(command).map(drop)
            }
            Place::Cluster(_) => {
                let command = kubectl(&["delete", "--timeout=90s", "--wait", "-f", &file.to_string_lossy()])?;
                success(command).map(drop)
            }
        }
    }
}

/// The namespaces of this bench on the cluster, deleted at the end.
pub(super) struct Namespaces {
    folder: PathBuf,
}

impl Namespaces {
    fn new() -> Result<Namespaces> {
        let folder = std::env::temp_dir().join(format!("osm-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Namespaces { folder })
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // There is nobody to tell; `kubectl delete namespace` can be repeated by hand.
        let delete = ["delete", "namespace", "--ignore-not-found", "--timeout=90s", "bench", "bench-plain"];
        kubectl(&delete).and_then(success).ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// `scripts/cluster kubectl ARGUMENTS`, from wherever in the checkout this program is.
fn kubectl(arguments: &[&str]) -> Result<Command> {
    let script = in_checkout("scripts/cluster");
    let mut command =
        Command::new(script.context("scripts/cluster is not above this program; run it from the checkout")?);
    command.arg("kubectl").args(arguments);
    Ok(command)
}
