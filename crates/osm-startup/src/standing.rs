//! How a pod stands: what it waits for, and what is not as it should be.

use jiff::Timestamp;
use osm_api::{INIT_CONTAINER, SIDECAR_CONTAINER};

use crate::last_words::LastWords;
use crate::seen::{ContainerSeen, ContainerState, Ended, PodSeen, Role};
use crate::{AgentReport, Missing, Reason};

/// How a pod stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it waits for, the first thing first; empty if it waits for nothing.
    pub missing: Vec<Missing>,
    /// What is not as it should be, though nothing waits for it.
    pub warnings: Vec<Missing>,
}

/// Words of the kubelet for an image that it cannot get.
const IMAGE_WORDS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "ErrImageUnavailable",
];

/// What the pod waits for, from what is seen of it and from what its agent says, if it says something.
pub fn standing(pod: &PodSeen, agent: Option<&AgentReport>, now: Timestamp) -> Standing {
    let mut standing = Standing::default();
    if pod.shape.is_none() {
        // Of a pod outside the mesh the mesh has nothing to say.
        standing.missing.extend(denied(pod));
        return standing;
    }
    standing.warnings.extend(without_hold(pod, now));
    let order = order(pod);
    if pod.is_over {
        // What failed before anything of the user's ran is ours to explain.
        let init = pod.containers.iter().find(|container| container.name == INIT_CONTAINER);
        let failed = init.filter(|init| init.bad_end().is_some());
        standing.missing.extend(failed.map(|init| init_pending(pod, init, now)));
        return standing;
    }
    if pod.is_ready {
        standing.warnings.extend(order);
        return standing;
    }
    let of_ours = || ours(pod, agent, now);
    let first = denied(pod).or(order).or_else(of_ours);
    standing.missing = match (first, agent) {
        (Some(first), _) => vec![first],
        (None, Some(agent)) if !agent.missing.is_empty() => agent.missing.clone(),
        (None, _) => of_user(pod, now).into_iter().collect(),
    };
    standing
}

fn denied(pod: &PodSeen) -> Option<Missing> {
    let (reason, what) = pod.denied.as_ref()?;
    Some(Missing::new(*reason, what, pod.created))
}

/// Whether somebody came between injection and the kubelet.
fn order(pod: &PodSeen) -> Option<Missing> {
    let is_native = pod.shape.as_deref().is_some_and(|shape| shape.starts_with("native"));
    let mut before = pod.containers.iter().take_while(|container| container.name != INIT_CONTAINER);
    let found = |name: &str| pod.containers.iter().find(|container| container.name == name);
    let culprit = |what: String| Missing::new(Reason::OrderChanged, what, pod.created);
    if pod.containers.is_empty() {
        // Nobody has looked yet.
        return None;
    }
    let sidecar = found(SIDECAR_CONTAINER);
    match (found(INIT_CONTAINER), sidecar) {
        // Not every shape has it.
        (None, Some(_)) if !needs_init(pod) => {}
        (None, _) if needs_init(pod) => {
            return Some(culprit("another webhook took osm-init out of the pod".to_owned()));
        }
        (_, None) => return Some(culprit("another webhook took the sidecar out of the pod".to_owned())),
        (_, Some(_)) => {
            if let Some(first) = before.next() {
                let what = format!(
                    "container {} comes before osm-init, so its connections go past the mesh: another webhook put it there",
                    first.name
                );
                return Some(culprit(what).owned_by(format!("container {}", first.name)));
            }
        }
    }
    let is_plain = sidecar.is_some_and(|sidecar| sidecar.role == Role::Init);
    if is_native && is_plain {
        let what = "another webhook took restartPolicy: Always from the sidecar, so the pod waits for its end for ever";
        return Some(culprit(what.to_owned()));
    }
    None
}

/// The shapes in which `osm-init` is a container of its own.
fn needs_init(pod: &PodSeen) -> bool {
    pod.shape.as_deref().is_some_and(|shape| shape.starts_with("init") || shape.starts_with("native"))
}

/// What keeps our own containers from doing their work.
fn ours(pod: &PodSeen, agent: Option<&AgentReport>, now: Timestamp) -> Option<Missing> {
    let mut containers = pod.containers.iter();
    if let Some(init) = containers.clone().find(|container| container.name == INIT_CONTAINER)
        && !init.has_succeeded()
    {
        return Some(init_pending(pod, init, now));
    }
    let sidecar = containers.find(|container| container.name == SIDECAR_CONTAINER)?;
    match (&sidecar.state, agent) {
        (ContainerState::Running { .. }, Some(_)) => None,
        (ContainerState::Running { since }, None) => {
            let what = "the sidecar's container runs, and its agent does not answer on port 15904";
            Some(after_bad_end(sidecar, now).unwrap_or_else(|| Missing::new(Reason::SidecarSilent, what, *since)))
        }
        (ContainerState::Waiting { .. } | ContainerState::Ended(_), _) => Some(sidecar_pending(pod, sidecar, now)),
    }
}

fn init_pending(pod: &PodSeen, init: &ContainerSeen, now: Timestamp) -> Missing {
    if let Some(missing) = image_missing(pod, init) {
        return missing;
    }
    let words = LastWords::find(&init.last_words).filter(|words| words.reason != Reason::HoldUnavailable);
    if let Some(LastWords { reason: Reason::ImageMissing, what }) = &words {
        let what = format!("the image of container {} cannot be used: {what}", init.name);
        return Missing::new(Reason::ImageMissing, what, pod.created);
    }
    match (init.bad_end(), words) {
        (Some(end), words) => {
            let said = words.map_or_else(|| last_line(&init.last_words), |words| words.what);
            let said = if said.is_empty() { "it wrote nothing".to_owned() } else { said };
            let what = format!("osm-init ended with exit code {}: {said}", end.code);
            Missing::new(Reason::InitFailed, what, end.at.unwrap_or(now))
        }
        (None, _) => waiting(pod, init, "osm-init has not ended yet", now),
    }
}

fn sidecar_pending(pod: &PodSeen, sidecar: &ContainerSeen, now: Timestamp) -> Missing {
    image_missing(pod, sidecar)
        .or_else(|| after_bad_end(sidecar, now))
        .unwrap_or_else(|| waiting(pod, sidecar, "the sidecar's container does not run yet", now))
}

/// Why the sidecar's container ended the last time.
fn after_bad_end(sidecar: &ContainerSeen, now: Timestamp) -> Option<Missing> {
    let end: &Ended = sidecar.bad_end().or(sidecar.last_end.as_ref()).filter(|end| end.code != 0)?;
    let since = end.at.unwrap_or(now);
    if end.reason == "OOMKilled" {
        let what = "the sidecar's container was killed for its memory: it reached its limit";
        return Some(Missing::new(Reason::OutOfMemory, what, since));
    }
    if let Some(words) = LastWords::find(&sidecar.last_words) {
        let missing = Missing::new(words.reason, format!("the sidecar cannot start: {}", words.what), since);
        return Some(missing);
    }
    let said = last_line(&sidecar.last_words);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let what = format!("the sidecar's container ended with exit code {}{said}", end.code);
    Some(Missing::new(Reason::SidecarEnded, what, since))
}

fn image_missing(pod: &PodSeen, container: &ContainerSeen) -> Option<Missing> {
    let ContainerState::Waiting { reason, message } = &container.state else { return None };
    if !IMAGE_WORDS.contains(&reason.as_str()) {
        return None;
    }
    let said = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
    let what = format!("the image of container {} cannot be had: {said}", container.name);
    Some(Missing::new(Reason::ImageMissing, what, pod.created))
}

fn waiting(pod: &PodSeen, container: &ContainerSeen, what: &str, now: Timestamp) -> Missing {
    let (said, since) = match &container.state {
        ContainerState::Waiting { reason, message } => (format!("{reason} {message}").trim().to_owned(), pod.created),
        ContainerState::Running { since } => (String::new(), *since),
        ContainerState::Ended(end) => (format!("it ended with exit code {}", end.code), end.at.unwrap_or(now)),
    };
    let what = if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") };
    Missing::new(Reason::SidecarPending, what, since)
}

/// Everything of ours is there: what is left is the user's own, or that of peers.
fn of_user(pod: &PodSeen, now: Timestamp) -> Option<Missing> {
    let mut own = pod
        .containers
        .iter()
        .filter(|container| container.name != INIT_CONTAINER && container.name != SIDECAR_CONTAINER);
    let init = own.clone().find(|container| match container.role {
        Role::Init => !container.has_succeeded(),
        Role::Sidecar => !container.is_ready,
        Role::App => false,
    });
    if let Some(init) = init {
        let what = format!("the pod's own init container {} has not ended", init.name);
        return Some(waiting_of_user(Reason::OwnInitContainer, what, pod, init, now));
    }
    let is_awaited = |app: &&ContainerSeen| app.role == Role::App && !app.is_ready && !app.has_succeeded();
    if let Some(app) = own.find(is_awaited) {
        let what = format!("container {} does not run and pass its probes yet", app.name);
        return Some(waiting_of_user(Reason::ApplicationUnready, what, pod, app, now));
    }
    let said = pod.peers_pending.as_ref()?;
    Some(Missing::new(Reason::PeersPending, said.clone(), pod.created))
}

fn waiting_of_user(reason: Reason, what: String, pod: &PodSeen, container: &ContainerSeen, now: Timestamp) -> Missing {
    let words = waiting(pod, container, &what, now);
    Missing::new(reason, words.what, words.since)
}

/// Said by `osm-init`, whose container has ended well.
fn without_hold(pod: &PodSeen, now: Timestamp) -> Option<Missing> {
    let init = pod.containers.iter().find(|container| container.name == INIT_CONTAINER)?;
    let words = LastWords::find(&init.last_words).filter(|words| words.reason == Reason::HoldUnavailable)?;
    let since = init.last_end.as_ref().and_then(|end| end.at).unwrap_or(now);
    Some(Missing::new(Reason::HoldUnavailable, words.what, since))
}

fn last_line(text: &str) -> String {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
