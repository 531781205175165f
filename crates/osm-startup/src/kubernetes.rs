//! What a cluster says of a pod: its object and its Events, in the words of [`PodSeen`].

use jiff::Timestamp;
use osm_api::{INIT_CONTAINER, INJECTED, SIDECAR_CONTAINER, is_over, k8s};

use crate::Reason;
use crate::missing::one_line;
use crate::seen::{ContainerSeen, ContainerState, Ended, PodSeen, Role, Step, StepKind};

/// Refuses pods that another webhook has changed after ours.
const ORDER_WEBHOOK: &str = "webhook \"osm-order.k8s.io\" denied";

/// Something that was not made, because admission said no or nobody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Which.
    pub reason: Reason,
    /// In the words of Kubernetes.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
}

/// The pod of a cluster as it is seen from outside. `events` are those about it, if they are known.
pub fn seen(pod: &k8s::Pod, events: &[k8s::Event], now: Timestamp) -> PodSeen {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let status = pod.status.clone().unwrap_or_default();
    let containers = containers(pod, &status, events);
    let annotations = pod.metadata.annotations.as_ref();
    let mut seen = PodSeen {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        shape: annotations.and_then(|all| all.get(INJECTED)).cloned(),
        created,
        steps: vec![Step { at: created, kind: StepKind::Created, what: "created and admitted".to_owned() }],
        containers,
        denied: unplaced(&status),
        peers_pending: peers_pending(pod, &status),
        is_ready: is_true(&status, "Ready"),
        is_over: is_over(pod),
    };
    seen.steps.extend(condition_steps(&status));
    seen.steps.extend(container_steps(pod, &status));
    seen
}

/// What Events say of pods that were never made for this owner (a ReplicaSet, a Job), newest first.
pub fn denied<'a>(events: impl IntoIterator<Item = &'a k8s::Event>) -> Option<Denied> {
    let failures = events.into_iter().filter(|event| event.reason.as_deref() == Some("FailedCreate"));
    let newest = failures.max_by_key(|event| time(event))?;
    let said = newest.message.clone().unwrap_or_default();
    let reason = if said.contains("failed calling webhook") {
        Reason::WebhookUnavailable
    } else if said.contains(ORDER_WEBHOOK) {
        Reason::OrderChanged
    } else {
        Reason::Refused
    };
    let since = newest.first_timestamp.as_ref().map(|time| time.0).or_else(|| time(newest))?;
    Some(Denied { reason, what: one_line(&said), since })
}

fn time(event: &k8s::Event) -> Option<Timestamp> {
    let of_series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    of_series.or(last).or_else(|| event.event_time.as_ref().map(|time| time.0)).or(made)
}

fn condition<'a>(status: &'a k8s::PodStatus, type_: &str) -> Option<&'a k8s::PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn is_true(status: &k8s::PodStatus, type_: &str) -> bool {
    condition(status, type_).is_some_and(|condition| condition.status == "True")
}

fn unplaced(status: &k8s::PodStatus) -> Option<(Reason, String)> {
    let scheduled = condition(status, "PodScheduled").filter(|condition| condition.status == "False")?;
    let why = scheduled.message.as_deref().or(scheduled.reason.as_deref()).unwrap_or("no node is chosen yet");
    Some((Reason::Unscheduled, format!("no node takes the pod: {}", one_line(why))))
}

/// What the pod's readiness gates wait for.
fn peers_pending(pod: &k8s::Pod, status: &k8s::PodStatus) -> Option<String> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let ours = gates.into_iter().find(|gate| gate.condition_type.starts_with("openservicemesh.io/"))?;
    let found = condition(status, &ours.condition_type);
    if found.is_some_and(|condition| condition.status == "True") {
        return None;
    }
    let said = found.and_then(|condition| condition.message.clone()).filter(|said| !said.is_empty());
    Some(said.map_or_else(|| format!("condition {} is not true yet", ours.condition_type), |said| one_line(&said)))
}

fn containers(pod: &k8s::Pod, status: &k8s::PodStatus, events: &[k8s::Event]) -> Vec<ContainerSeen> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let goes_on = container.restart_policy.as_deref() == Some("Always");
        (container, if goes_on { Role::Sidecar } else { Role::Init })
    });
    let apps = spec.containers.iter().map(|container| (container, Role::App));
    let statuses = || {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    };
    let seen = init.chain(apps).map(|(container, role)| {
        let status = statuses().find(|status| status.name == container.name);
        container_seen(&container.name, role, status, events)
    });
    seen.collect()
}

fn container_seen(
    name: &str,
    role: Role,
    status: Option<&k8s::ContainerStatus>,
    events: &[k8s::Event],
) -> ContainerSeen {
    let end = |ended: &k8s::ContainerStateTerminated| Ended {
        code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        at: ended.finished_at.as_ref().map(|time| time.0),
    };
    let now = status.and_then(|status| status.state.as_ref());
    let last = status.and_then(|status| status.last_state.as_ref()).and_then(|state| state.terminated.as_ref());
    let terminated = now.and_then(|state| state.terminated.as_ref());
    let state = match (now.and_then(|state| state.running.as_ref()), terminated) {
        (Some(running), _) => ContainerState::Running {
            since: running.started_at.as_ref().map(|time| time.0).unwrap_or(Timestamp::UNIX_EPOCH),
        },
        (None, Some(terminated)) => ContainerState::Ended(end(terminated)),
        (None, None) => {
            let waiting = now.and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default();
            let message = waiting.and_then(|waiting| waiting.message.clone());
            let message = message.or_else(|| event_about(name, events)).unwrap_or_default();
            ContainerState::Waiting { reason, message: one_line(&message) }
        }
    };
    let words = |ended: Option<&k8s::ContainerStateTerminated>| ended.and_then(|ended| ended.message.clone());
    ContainerSeen {
        name: name.to_owned(),
        role,
        state,
        last_end: terminated.or(last).map(end),
        is_ready: status.is_some_and(|status| status.ready),
        last_words: words(terminated).or_else(|| words(last)).unwrap_or_default(),
    }
}

/// The newest complaint of the kubelet about a container.
fn event_about(container: &str, events: &[k8s::Event]) -> Option<String> {
    let path = format!("{{{container}}}");
    let about = events.iter().filter(|event| {
        let field = event.involved_object.field_path.as_deref().unwrap_or_default();
        field.ends_with(&path) && event.type_.as_deref() == Some("Warning")
    });
    about.max_by_key(|event| time(event))?.message.clone()
}

fn condition_steps(status: &k8s::PodStatus) -> Vec<Step> {
    let steps = [("PodScheduled", StepKind::Scheduled, "a node is chosen"), ("Ready", StepKind::Ready, "pod ready")];
    let steps = steps.into_iter().filter_map(|(type_, kind, what)| {
        let condition = condition(status, type_).filter(|condition| condition.status == "True")?;
        let at = condition.last_transition_time.as_ref()?.0;
        Some(Step { at, kind, what: what.to_owned() })
    });
    steps.collect()
}

fn container_steps(pod: &k8s::Pod, status: &k8s::PodStatus) -> Vec<Step> {
    let mut steps = Vec::new();
    let init = status.init_container_statuses.iter().flatten();
    for container in init.chain(status.container_statuses.iter().flatten()) {
        let states = [&container.last_state, &container.state].into_iter().flatten();
        for state in states {
            let (started, ended) = match (&state.running, &state.terminated) {
                (Some(running), _) => (running.started_at.as_ref(), None),
                (None, Some(ended)) => {
                    (ended.started_at.as_ref(), ended.finished_at.as_ref().map(|at| (at.0, ended.exit_code)))
                }
                (None, None) => (None, None),
            };
            let name = &container.name;
            let kind = kind_of_start(pod, name);
            steps.extend(started.map(|at| Step { at: at.0, kind, what: format!("{name} started") }));
            steps.extend(ended.map(|(at, code)| Step {
                at,
                kind: if name == INIT_CONTAINER && code == 0 { StepKind::InitEnded } else { StepKind::Other },
                what: format!("{name} ended with exit code {code}"),
            }));
        }
    }
    steps
}

/// What the start of a container means for the pod.
fn kind_of_start(pod: &k8s::Pod, container: &str) -> StepKind {
    let mut apps = pod.spec.iter().flat_map(|spec| &spec.containers);
    match container {
        INIT_CONTAINER => StepKind::InitStarted,
        SIDECAR_CONTAINER => StepKind::SidecarStarted,
        name if apps.any(|app| app.name == name) => StepKind::ApplicationStarted,
        _ => StepKind::Other,
    }
}
