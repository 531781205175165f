//! Images of the sidecar in which a script is in the place of a program and starts the real one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::binary;

/// Where the real programs are in such an image.
const REAL: &str = "/usr/local/libexec";

/// What the scripts do besides starting the real programs. In their lines `$FOLDER` is the lab's folder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scripts<'a> {
    /// Lines before `osm-sidecar`.
    pub(crate) before_sidecar: &'a str,
    /// Lines before Envoy.
    pub(crate) before_envoy: &'a str,
    /// Arguments that Envoy gets besides its own.
    pub(crate) envoy_arguments: &'a str,
}

impl Scripts<'_> {
    /// Writes the scripts into the lab's folder, and gives back the images file's lines about this image.
    pub(crate) fn image(&self, folder: &Path, name: &str) -> Result<String> {
        // The sidecar has a user of its own.
        fs::set_permissions(folder, Permissions::from_mode(0o755)).context("opening the lab's folder")?;
        let file = name.replace('/', "-");
        let sidecar = format!("{}\nexec {REAL}/osm-sidecar \"$@\"", self.before_sidecar);
        let envoy = format!("{}\nexec {REAL}/envoy \"$@\" {}", self.before_envoy, self.envoy_arguments);
        Ok(format!(
            "  {name}:\n    command: [osm-sidecar]\n    env: {{OSM_ENVOY: /usr/local/bin/envoy}}\n    mounts:\n      \
             /usr/local/bin/osm-sidecar: {}\n      /usr/local/bin/envoy: {}\n      \
             {REAL}/osm-sidecar: {}\n      {REAL}/envoy: {}\n",
            script(folder, &format!("{file}-sidecar"), &sidecar)?,
            script(folder, &format!("{file}-envoy"), &envoy)?,
            binary("osm-sidecar")?.display(),
            osm_testkit::find_envoy().context("finding Envoy")?.display(),
        ))
    }
}

fn script(folder: &Path, name: &str, lines: &str) -> Result<String> {
    let path = folder.join(name);
    let text = format!("#!/bin/sh\nFOLDER={}\n{lines}\n", folder.display());
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).context("making a script a program")?;
    Ok(path.display().to_string())
}
