//! The driver for one machine: every step is a command of `osm local`, so a scenario that fails can be repeated by hand.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context, Result};

use super::driver::{CommandLine, Driver, Network, Whose};
use super::{Output, Status, binary, command, osm, text};

/// The controller's program, and its name in the folder of a lab.
const CONTROLLER: &str = "osm-controller";

/// One runner.
pub(crate) struct Machine {
    name: String,
    folder: PathBuf,
    more_images: String,
}

impl Machine {
    pub(crate) fn new(name: &str, folder: &Path, more_images: &str) -> Machine {
        Machine { name: name.to_owned(), folder: folder.to_owned(), more_images: more_images.to_owned() }
    }

    /// Runs `osm local VERB --name LAB ARGUMENTS`.
    pub(crate) fn osm(&self, verb: &str, arguments: &[&str]) -> Result<Output> {
        self.line(verb, arguments).run()
    }

    /// Runs `osm ARGUMENTS --name LAB`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Output> {
        command::run(osm(), &[arguments, &["--name", &self.name]].concat())
    }

    /// What runs a command in the namespaces of the router.
    pub(crate) fn node(&self, command: &[&str]) -> CommandLine {
        self.line("exec", &[&["--node", "--"], command].concat())
    }

    /// Puts the controller's program where this lab's runner looks for it.
    pub(crate) fn place_controller(&self) -> Result<()> {
        symlink(binary(CONTROLLER)?, self.folder.join(CONTROLLER)).context("placing the controller's program")
    }

    /// Puts a script in its place, in which `$CONTROLLER` is the controller and `$FOLDER` this lab's folder.
    pub(crate) fn place_script_for_controller(&self, line: &str) -> Result<()> {
        let path = self.folder.join(CONTROLLER);
        let (controller, folder) = (binary(CONTROLLER)?, self.folder.display());
        let text = format!("#!/bin/sh\nCONTROLLER={} FOLDER={folder}\n{line}\n", controller.display());
        fs::write(&path, text).context("placing a script for the controller")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("making it a program")
    }

    /// Takes it away: a controller that ends from here on stays down.
    pub(crate) fn remove_controller(&self) -> Result<()> {
        fs::remove_file(self.folder.join(CONTROLLER)).context("removing the controller's program")
    }

    /// The first process of a pod's sidecar, as the runner counts.
    pub(super) fn first_process(&self, pod: &str) -> Result<String> {
        let status = self.status()?;
        let found = status.pods.iter().find(|found| found.full_name() == pod).context("there is no such pod")?;
        let process = found.container("envoy").and_then(|sidecar| sidecar.pid).context("its sidecar does not run")?;
        Ok(process.to_string())
    }

    fn line(&self, verb: &str, arguments: &[&str]) -> CommandLine {
        CommandLine::new(osm(), &[&["local", verb, "--name", &self.name], arguments].concat())
    }
}

impl Driver for Machine {
    fn up(&self, manifests: &Path, network: Network) -> Result<()> {
        let images = self.folder.join("images.yaml");
        fs::write(&images, images_of_this_build()? + &self.more_images)?;
        self.place_controller()?;
        let controller = ("OSM_CONTROLLER_BIN", &*self.folder.join(CONTROLLER));
        let words = ["--timeout", "60s", "--images", text(&images), "-f", text(manifests)];
        let families: &[&str] = match network {
            Network::V4 => &[],
            Network::DualStack => &["--ipv6"],
        };
        let line = self.line("up", &[&words, families].concat());
        command::run_with(controller, &line.program, &line.words())?.success().context("osm local up")?;
        Ok(())
    }

    fn down(&self) {
        // There is nobody to tell: what would be left behind is found by the scenario that compares the machine.
        self.osm("down", &[]).ok();
    }

    fn apply(&self, file: &Path) -> Result<Output> {
        self.osm("apply", &["-f", text(file)])
    }

    fn delete(&self, file: &Path) -> Result<Output> {
        self.osm("delete", &["-f", text(file)])
    }

    fn exec(&self, pod: &str, container: Option<&str>, command: &[&str]) -> CommandLine {
        let container = container.map(|container| ["-c", container]).unwrap_or_default();
        let container: Vec<&str> = container.into_iter().filter(|word| !word.is_empty()).collect();
        self.line("exec", &[&[pod], &container[..], &["--"], command].concat())
    }

    fn run_demo(&self, pod: &str, arguments: &[&str]) -> Result<CommandLine> {
        Ok(self.exec(pod, None, &[&[&*self.demo()?], arguments].concat()))
    }

    fn logs(&self, pod: &str, container: &str) -> Result<Output> {
        self.osm("logs", &[pod, "-c", container])
    }

    fn status(&self) -> Result<Status> {
        let output = self.osm("status", &["-o", "json"])?;
        serde_json::from_str(&output.success()?).context("reading the status")
    }

    fn demo(&self) -> Result<String> {
        Ok(binary("osm-demo")?.to_string_lossy().into_owned())
    }

    fn signal(&self, whose: Whose<'_>, program: &str, signal: &str) -> Result<()> {
        match whose {
            Whose::Everybody => self.node(&["pkill", &format!("-{signal}"), "-x", program]).run()?.success()?,
            Whose::Pod(pod) => {
                let (first, process) = (self.first_process(pod)?, self.process(pod, program)?);
                // From outside, because in some shapes nobody inside may signal the sidecar's processes.
                let kill = ["nsenter", "--target", &first, "--pid", "--", "kill", &format!("-{signal}"), &process];
                self.node(&kill).run()?.success()?
            }
        };
        Ok(())
    }

    fn kill_sidecar(&self, pod: &str) -> Result<()> {
        // From outside: no signal from inside its own namespace ends a first process.
        self.node(&["kill", "-KILL", &self.first_process(pod)?]).run()?.success()?;
        Ok(())
    }

    fn process(&self, pod: &str, program: &str) -> Result<String> {
        let found = self.exec(pod, Some("envoy"), &["pgrep", "-x", program]).run()?.success()?;
        Ok(found.lines().next().with_context(|| format!("no {program} runs in {pod}"))?.to_owned())
    }
}

/// The name of a runner of this process's own.
pub(super) fn new_name(number: u32) -> String {
    format!("e2e-{}-{number}", process::id())
}

fn images_of_this_build() -> Result<String> {
    let mut images = format!("images:\n  osm-demo:\n    command: [{}]\n", binary("osm-demo")?.display());
    images.push_str("  openservicemesh/osm-bookstore:\n    mounts:\n");
    let bookstore = binary("osm-bookstore")?;
    for program in ["bookbuyer", "bookthief", "bookstore", "bookwarehouse"] {
        images.push_str(&format!("      /{program}: {}\n", bookstore.display()));
    }
    Ok(images)
}
