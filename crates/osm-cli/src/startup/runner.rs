//! Pods of a local runner, in the words in which all pods are seen.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use osm_api::{INIT_CONTAINER, NamespacedName, SIDECAR_CONTAINER};
use osm_local::Local;
use osm_local::pod::{Phase, Role};
use osm_local::status::{ContainerState, ContainerStatus, PodStatus, TimelineEntry, TimelineEvent};
use osm_runtime::clock;
use osm_startup::{AgentReport, ContainerSeen, Ended, PodSeen, Reason, Step, StepKind};

use super::{Startup, no_pod};

/// The last words of a container are within so much of the end of its log.
const LOG_END_BYTES: u64 = 8 << 10;

/// How one pod of a runner started.
pub(super) async fn one(local: &Local, pod: &NamespacedName) -> anyhow::Result<Startup> {
    let status = local.status_with_sidecars().await?;
    let found = status.pods.iter().find(|found| (&found.namespace, &found.name) == (&pod.namespace, &pod.name));
    let found = found.ok_or_else(|| no_pod(pod, &format!("osm local status --name {}", status.name)))?;
    Ok(startup(local, found))
}

/// How every pod of the mesh started.
pub(super) async fn all(local: &Local, namespace: Option<&str>) -> anyhow::Result<Vec<Startup>> {
    let status = local.status_with_sidecars().await?;
    let is_asked =
        |pod: &&PodStatus| pod.injected.is_some() && namespace.is_none_or(|namespace| namespace == pod.namespace);
    Ok(status.pods.iter().filter(is_asked).map(|pod| startup(local, pod)).collect())
}

fn startup(local: &Local, pod: &PodStatus) -> Startup {
    let name = NamespacedName::new(&pod.namespace, &pod.name);
    let log_end = |container: &str| end_of(&local.state().container_log(&name, container)).unwrap_or_default();
    let agent = pod.sidecar.clone().and_then(|said| serde_json::from_value::<AgentReport>(said).ok());
    Startup::new(&seen(pod, log_end), agent.as_ref())
}

/// The pod as it is seen from outside; `log_end` is the end of what a container wrote.
fn seen(pod: &PodStatus, log_end: impl Fn(&str) -> String) -> PodSeen {
    let time = |entry: &TimelineEntry| Timestamp::from_millisecond(entry.at_unix_ms).unwrap_or_default();
    let created = pod.timeline.first().map_or_else(clock::now, time);
    let containers = pod.containers.iter().map(|container| {
        let is_ours = container.name == INIT_CONTAINER || container.name == SIDECAR_CONTAINER;
        let last_words = if is_ours { log_end(&container.name) } else { String::new() };
        let last = |event| {
            let of_it =
                |entry: &&TimelineEntry| entry.event == event && entry.container.as_deref() == Some(&container.name);
            pod.timeline.iter().rfind(of_it).map(time)
        };
        container_seen(container, last, last_words)
    });
    PodSeen {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        shape: pod.injected.clone(),
        created,
        steps: pod.timeline.iter().map(|entry| step(entry, pod, time(entry))).collect(),
        containers: containers.collect(),
        denied: denied(pod),
        peers_pending: None,
        is_ready: pod.ready,
        is_over: matches!(pod.phase, Phase::Succeeded | Phase::Failed),
    }
}

/// What keeps a pod from being started at all.
fn denied(pod: &PodStatus) -> Option<(Reason, String)> {
    // Who was admitted has a uid.
    if !pod.uid.is_empty() {
        return None;
    }
    let reason = if pod.phase == Phase::Failed { Reason::Refused } else { Reason::WebhookUnavailable };
    Some((reason, pod.reason.clone()))
}

fn container_seen(
    container: &ContainerStatus,
    last: impl Fn(TimelineEvent) -> Option<Timestamp>,
    last_words: String,
) -> ContainerSeen {
    let end =
        container.exit_code.map(|code| Ended { code, reason: String::new(), at: last(TimelineEvent::ContainerExited) });
    let waiting = |reason: &str| osm_startup::ContainerState::Waiting { reason: reason.into(), message: String::new() };
    let state = match (container.state, &end) {
        (ContainerState::Running, _) => {
            osm_startup::ContainerState::Running { since: last(TimelineEvent::ContainerStarted).unwrap_or_default() }
        }
        (ContainerState::Exited, Some(end)) => osm_startup::ContainerState::Ended(end.clone()),
        (ContainerState::BackOff, _) => waiting("CrashLoopBackOff"),
        (ContainerState::Waiting | ContainerState::Exited, _) => waiting(""),
    };
    let role = match container.role {
        Role::Init => osm_startup::Role::Init,
        Role::Sidecar => osm_startup::Role::Sidecar,
        Role::App => osm_startup::Role::App,
    };
    ContainerSeen { name: container.name.clone(), role, state, last_end: end, is_ready: container.ready, last_words }
}

fn step(entry: &TimelineEntry, pod: &PodStatus, at: Timestamp) -> Step {
    let container = entry.container.as_deref().unwrap_or_default();
    let code = entry.exit_code.unwrap_or_default();
    let is_app = pod.containers.iter().any(|it| it.name == container && it.role == Role::App);
    let (kind, what) = match entry.event {
        TimelineEvent::Created => (StepKind::Created, "created".to_owned()),
        TimelineEvent::Admitted => (StepKind::Admitted, "admitted".to_owned()),
        TimelineEvent::NetworkReady => (StepKind::NetworkReady, "network ready".to_owned()),
        TimelineEvent::ContainerStarted => {
            let kind = match container {
                INIT_CONTAINER => StepKind::InitStarted,
                SIDECAR_CONTAINER => StepKind::SidecarStarted,
                _ if is_app => StepKind::ApplicationStarted,
                _ => StepKind::Other,
            };
            (kind, format!("{container} started"))
        }
        TimelineEvent::ContainerExited => {
            let kind = if container == INIT_CONTAINER && code == 0 { StepKind::InitEnded } else { StepKind::Other };
            (kind, format!("{container} ended with exit code {code}"))
        }
        TimelineEvent::Ready => (StepKind::Ready, "pod ready".to_owned()),
        TimelineEvent::ContainerPassedStartup => (StepKind::Other, format!("{container} passed its startup probe")),
        TimelineEvent::ContainerReady => (StepKind::Other, format!("{container} ready")),
        TimelineEvent::ContainerUnready => (StepKind::Other, format!("{container} no longer ready")),
        TimelineEvent::ContainerFailedPostStart => {
            (StepKind::Other, format!("{container} failed in its postStart hook"))
        }
        TimelineEvent::ContainerFailedLiveness => (StepKind::Other, format!("{container} failed its liveness probe")),
        TimelineEvent::Unready => (StepKind::Other, "pod no longer ready".to_owned()),
        TimelineEvent::Stopping => (StepKind::Other, "told to stop".to_owned()),
        TimelineEvent::Over => (StepKind::Other, "over".to_owned()),
    };
    Step { at, kind, what }
}

/// The end of a file.
fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_END_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
