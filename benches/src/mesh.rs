//! A mesh of its own for one measurement, through the commands of `osm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

/// One mesh, from `osm local up` to `osm local down`.
pub(crate) struct Mesh {
    name: String,
    folder: PathBuf,
}

impl Mesh {
    /// Brings up a mesh with these manifests and waits until its pods are ready.
    pub(crate) fn up(manifests: &str) -> Result<Mesh> {
        let name = format!("bench-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("osm-mesh-{name}"));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mesh = Mesh { name, folder };
        let images = format!("images:\n  osm-demo:\n    command: [{}]\n", program("osm-demo")?.display());
        let images = mesh.write("images.yaml", &images)?;
        let manifests = mesh.write("first.yaml", manifests)?;
        let mut command = mesh.osm("up")?;
        command.args(["--timeout", "120s", "--images"]).arg(images).arg("-f").arg(manifests);
        success(command)?;
        Ok(mesh)
    }

    /// `osm local VERB` for this mesh.
    pub(crate) fn osm(&self, verb: &str) -> Result<Command> {
        let mut command = Command::new(program("osm")?);
        command.args(["local", verb, "--name", &self.name]);
        Ok(command)
    }

    /// Applies a file; what it prints is only shown when it fails.
    pub(crate) fn apply(&self, file: &Path) -> Result<()> {
        let mut command = self.osm("apply")?;
        command.arg("-f").arg(file);
        success(command).map(drop)
    }

    /// Writes a file of this mesh.
    pub(crate) fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // There is nobody to tell, and `osm local down` can be repeated by hand.
        self.osm("down").and_then(success).ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A program of ours, beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let path = own.parent().context("finding this program's folder")?.join(name);
    ensure!(path.exists(), "{} is missing; build it with: cargo build --profile ci --workspace --bins", path.display());
    Ok(path)
}

/// Runs a command to its end: what it printed, or an error with what it complained about.
pub(crate) fn success(mut command: Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
