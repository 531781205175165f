//! Images of the sidecar that are broken in one way each: the real programs, started by a script that breaks something.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::faults::FAULTS;
use crate::lab::{Scripts, run};

/// A script in the place of a program of the image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    /// Nothing: the image is as it should be.
    Nothing,
    /// The image is not there.
    Absent,
    /// Lines that `osm-sidecar` is started by; `$FOLDER` is the lab's folder.
    Sidecar(&'static str),
    /// Lines that come before Envoy.
    EnvoyAfter(&'static str),
    /// Arguments that Envoy gets besides its own.
    EnvoyWith(&'static str),
}

/// Writes the images' scripts into the lab's folder, and gives back the images file's lines about them.
pub(super) fn prepare(folder: &Path) -> Result<String> {
    let folder_name = folder.display();
    fs::write(folder.join("forged"), "not.a.token").context("writing a token that is none")?;
    another_authority(folder)?;
    without_socket_match(folder)?;
    let mut images = String::new();
    for fault in FAULTS {
        let (before_sidecar, before_envoy, envoy_arguments) = match fault.image {
            Broken::Nothing => continue,
            Broken::Absent => {
                images.push_str(&format!("  broken-{}: {{root: {folder_name}/no-such-root}}\n", fault.name));
                continue;
            }
            Broken::Sidecar(lines) => (lines, "", ""),
            Broken::EnvoyAfter(lines) => ("", lines, ""),
            Broken::EnvoyWith(arguments) => ("", "", arguments),
        };
        let scripts = Scripts { before_sidecar, before_envoy, envoy_arguments };
        images.push_str(&scripts.image(folder, &format!("broken-{}", fault.name))?);
    }
    Ok(images)
}

/// The mesh's settings under which new pods get this image.
pub(super) fn choose(name: &str, image: Broken) -> String {
    let image = match image {
        Broken::Nothing => "openservicemesh/osm-sidecar".to_owned(),
        Broken::Absent | Broken::Sidecar(_) | Broken::EnvoyAfter(_) | Broken::EnvoyWith(_) => format!("broken-{name}"),
    };
    format!(
        "---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {{name: osm-mesh-config, namespace: osm-system}}
spec:
  traffic: {{enablePermissiveTrafficPolicyMode: true}}
  sidecar: {{image: {image}, initContainerImage: {image}}}
"
    )
}

/// The certificate of an authority that has nothing to do with the mesh.
fn another_authority(folder: &Path) -> Result<()> {
    let (key, certificate) = (folder.join("other.key"), folder.join("other.pem"));
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    let new_key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    let names = ["-subj", "/CN=another authority", "-keyout", &key, "-out", &certificate];
    run(Path::new("openssl"), &[&new_key[..], &names].concat())?.success().context("making another authority")?;
    Ok(())
}

/// The extensions of iptables but for the one that sees who listens: a node whose kernel or tools lack the match.
fn without_socket_match(folder: &Path) -> Result<()> {
    let (from, to) = ("/usr/lib/x86_64-linux-gnu/xtables", folder.join("xtables"));
    run(Path::new("cp"), &["-r", from, &to.display().to_string()])?.success().context("copying extensions")?;
    fs::remove_file(to.join("libxt_socket.so")).context("taking the match away")
}
