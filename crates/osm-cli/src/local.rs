//! `osm local`: the subcommands, each in the words of a person at a terminal.

mod logs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use osm_api::NamespacedName;
use osm_local::pod::Phase;
use osm_local::status::PodStatus;
use osm_local::{Changes, Down, Failure, IpFamilies, Local, ManifestText, Status, Up};
use osm_runtime::clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::arguments::{self, Local as Command, Name};
use crate::{manifests, meaning, render, startup};

const INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks whether a runner in the foreground still runs.
const CALM: Duration = Duration::from_millis(500);

/// Runs one subcommand.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(arguments) => up(arguments).await,
        Command::Down(Name { name }) => down(&name).await,
        Command::Status(arguments) => {
            let local = Local::named(&arguments.runner.name)?;
            let mut status = match arguments.output {
                arguments::Output::Table => local.status().await?,
                arguments::Output::Json | arguments::Output::Yaml => local.status_with_sidecars().await?,
            };
            meaning::add_to_status(&local, &mut status).await?;
            render::status(&status, arguments.output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Startup(arguments) => {
            let local = Local::named(&arguments.runner.name)?;
            let pod = pod_name(&arguments.pod, &arguments.namespace);
            render::startup(&startup::of_runner(&local, &pod).await?, arguments.output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Logs(arguments) => logs::run(arguments).await,
        Command::Exec(arguments) => exec(arguments).await,
        Command::Apply(arguments) => {
            let local = Local::named(&arguments.runner.name)?;
            let changes = apply(&local, manifests::read(&arguments.files)?).await?;
            finish(&local, changes, arguments.timeout).await
        }
        Command::Delete(arguments) => {
            let local = Local::named(&arguments.runner.name)?;
            let changes = local.delete(manifests::read(&arguments.files)?).await?;
            finish(&local, changes, Duration::ZERO).await
        }
    }
}

async fn up(arguments: arguments::Up) -> anyhow::Result<ExitCode> {
    let local = Local::named(&arguments.runner.name)?;
    // Before anything is started: what cannot be read should change nothing.
    let images = manifests::read_images(arguments.images.as_deref())?;
    let files = manifests::read(&arguments.files)?;
    let has_images = arguments.images.is_some();
    let families = if arguments.ipv6 { IpFamilies::DualStack } else { IpFamilies::V4 };
    match local.up(images, families).await? {
        Up::Started => {}
        Up::AlreadyUp if arguments.ipv6 => {
            let name = &arguments.runner.name;
            let message = format!("runner {name} is up already, and keeps the network that it was brought up with");
            let hint = format!("take it down first: osm local down --name {name}");
            return Err(Failure { message, hint }.into());
        }
        Up::AlreadyUp if has_images => {
            let name = &arguments.runner.name;
            let message = format!("runner {name} is up already, and keeps the images that it was brought up with");
            let hint = format!("take it down first: osm local down --name {name}");
            return Err(Failure { message, hint }.into());
        }
        Up::AlreadyUp => render::say(&format!("runner {} is up already", arguments.runner.name)),
    }
    let changes = if files.is_empty() { Changes::default() } else { apply(&local, files).await? };
    let code = finish(&local, changes, arguments.timeout).await?;
    if arguments.foreground {
        stay(&local).await?;
        return down(&arguments.runner.name).await;
    }
    Ok(code)
}

/// Applies manifests, and says what the mesh makes of them.
async fn apply(local: &Local, files: Vec<ManifestText>) -> anyhow::Result<Changes> {
    let mut changes = local.apply(files.clone()).await?;
    meaning::add_to_changes(local, &files, &mut changes).await?;
    Ok(changes)
}

async fn down(name: &str) -> anyhow::Result<ExitCode> {
    match Local::named(name)?.down().await? {
        Down::Stopped => {}
        Down::Removed => render::say(&format!("runner {name} had ended; what it left is removed")),
        Down::NotThere => render::say(&format!("no runner {name} is up")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn exec(arguments: arguments::Exec) -> anyhow::Result<ExitCode> {
    let local = Local::named(&arguments.runner.name)?;
    let code = match arguments.pod {
        None => local.exec_node(arguments.command).await?,
        Some(pod) => {
            let pod = pod_name(&pod, &arguments.namespace);
            local.exec(pod, arguments.container, arguments.command).await?
        }
    };
    Ok(ExitCode::from(code))
}

/// Prints what came of a change, waits for the pods if that is asked for, and says whether all is as it should be.
async fn finish(local: &Local, changes: Changes, timeout: Duration) -> anyhow::Result<ExitCode> {
    render::changes(&changes);
    let has_errors = changes.problems.iter().any(render::is_error);
    if !timeout.is_zero() {
        wait_until_ready(local, timeout).await?;
    }
    Ok(if has_errors { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits until every pod is ready or has done its work. One that has failed for good ends the wait.
async fn wait_until_ready(local: &Local, timeout: Duration) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + timeout;
    loop {
        let status = local.status().await?;
        let unsettled: Vec<&PodStatus> = status.pods.iter().filter(|pod| !pod.is_settled()).collect();
        if let Some(pod) = unsettled.iter().find(|pod| pod.phase == Phase::Failed) {
            return Err(failed(local, &status, pod));
        }
        if unsettled.is_empty() {
            return Ok(());
        }
        if clock::monotonic() >= deadline {
            let waits = |pod: &&PodStatus| format!("  {}/{}: {}", pod.namespace, pod.name, pod.reason);
            let list: Vec<String> = unsettled.iter().map(waits).collect();
            let message = format!("not all pods are ready after {timeout:?}:\n{}", list.join("\n"));
            let hint = format!("see more: osm local status --name {0}; osm local logs --name {0} POD", status.name);
            return Err(Failure { message, hint }.into());
        }
        sleep(INTERVAL).await;
    }
}

fn failed(local: &Local, status: &Status, pod: &PodStatus) -> anyhow::Error {
    let name = NamespacedName::new(&pod.namespace, &pod.name);
    let container = pod.containers.iter().find(|c| c.exit_code.is_some_and(|code| code != 0));
    let hint = container.map_or_else(String::new, |container| {
        let log = std::fs::read_to_string(local.state().container_log(&name, &container.name)).unwrap_or_default();
        let last = log.lines().last().map(|line| format!("; its last words: {line}")).unwrap_or_default();
        format!("osm local logs --name {} {name} -c {}{last}", status.name, container.name)
    });
    Failure { message: format!("pod {name} failed: {}", pod.reason), hint }.into()
}

/// Until Ctrl-C, SIGTERM, or the end of the runner.
async fn stay(local: &Local) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    render::say("up; Ctrl-C takes everything down");
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = sleep(CALM) => {
                if local.state().live_process().is_none() {
                    render::say("the runner has ended");
                    return Ok(());
                }
            }
        }
    }
}

/// `NAMESPACE/NAME`, or `NAME` in the namespace that was named beside it.
pub(crate) fn pod_name(text: &str, namespace: &str) -> NamespacedName {
    let text = text.strip_prefix("pod/").unwrap_or(text);
    match text.split_once('/') {
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => NamespacedName::new(namespace, text),
    }
}
