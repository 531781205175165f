//! `osm local logs`: what containers, the runner and the controller wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use osm_api::{NamespacedName, SIDECAR_CONTAINER};
use osm_local::pod::Role;
use osm_local::status::PodStatus;
use osm_local::{Failure, Local};
use tokio::time::sleep;

use super::pod_name;
use crate::arguments::Logs;
use crate::render;

const INTERVAL: Duration = Duration::from_millis(100);

/// Prints a log.
pub(super) async fn run(arguments: Logs) -> anyhow::Result<ExitCode> {
    let local = Local::named(&arguments.runner.name)?;
    let (file, pod) = match &arguments.pod {
        None if arguments.of_controller => (local.state().controller_log(), None),
        None => (local.state().runner_log(), None),
        Some(pod) => {
            let pod = pod_name(pod, &arguments.namespace);
            let status = find(&local, &pod).await?;
            let container = container(&status, arguments.container.as_deref())?;
            (local.state().container_log(&pod, &container), Some((pod, container)))
        }
    };
    let mut reader = Reader { path: file, file: None };
    reader.print_new()?;
    while arguments.follow && goes_on(&local, pod.as_ref()).await {
        sleep(INTERVAL).await;
        reader.print_new()?;
    }
    reader.print_new()?;
    Ok(ExitCode::SUCCESS)
}

struct Reader {
    path: PathBuf,
    file: Option<File>,
}

impl Reader {
    /// Prints what was written since the last call. Nothing written yet is nothing to print.
    fn print_new(&mut self) -> anyhow::Result<()> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut buffer = Vec::new();
        file.read_to_end(&mut buffer).with_context(|| format!("reading {}", self.path.display()))?;
        match render::bytes(&buffer) {
            // Who reads has left, and wants no more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            printed => printed.context("printing"),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("opening {}", path.display())),
    }
}

/// Whether there may be more.
async fn goes_on(local: &Local, of: Option<&(NamespacedName, String)>) -> bool {
    let Ok(status) = local.status().await else { return false };
    let Some((pod, container)) = of else { return true };
    let found = status.pods.iter().find(|p| p.namespace == pod.namespace && p.name == pod.name);
    let found = found.and_then(|p| p.containers.iter().find(|c| c.name == *container));
    found.is_some_and(|c| c.state != osm_local::status::ContainerState::Exited)
}

async fn find(local: &Local, pod: &NamespacedName) -> anyhow::Result<PodStatus> {
    let status = local.status().await?;
    let found = status.pods.into_iter().find(|p| p.namespace == pod.namespace && p.name == pod.name);
    found.ok_or_else(|| {
        let hint = format!("see which there are: osm local status --name {}", status.name);
        Failure { message: format!("there is no pod {pod}"), hint }.into()
    })
}

fn container(pod: &PodStatus, asked: Option<&str>) -> anyhow::Result<String> {
    let own = |role: Role, name: &str| role == Role::App && name != SIDECAR_CONTAINER;
    let found = match asked {
        Some(name) => pod.containers.iter().find(|c| c.name == name),
        None => pod.containers.iter().find(|c| own(c.role, &c.name)).or(pod.containers.first()),
    };
    found.map(|c| c.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = pod.containers.iter().map(|c| c.name.as_str()).collect();
        let (message, hint) = match asked {
            Some(name) => {
                (format!("pod {} has no container {name}", pod.name), format!("its containers: {}", names.join(", ")))
            }
            None => (format!("pod {} has no container yet", pod.name), pod.reason.clone()),
        };
        Failure { message, hint }.into()
    })
}
