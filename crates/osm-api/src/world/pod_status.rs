//! The part of a pod's status that decisions rest on: where it is, whether it can serve, and which containers are over.
//! All else would cause work with every word of the kubelet.

use crate::pod::is_last_phase;
use crate::{CONDITION_PREFIX, k8s};

/// The condition of Kubernetes that every container of the pod is ready; readiness gates do not count for it.
pub const CONTAINERS_READY: &str = "ContainersReady";

/// Takes away all but what decisions rest on.
pub(crate) fn strip(pod: &mut k8s::Pod) {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let gates: Vec<String> = gates.map(|gate| gate.condition_type.clone()).collect();
    let Some(status) = pod.status.take() else { return };
    let is_kept = |type_: &String| type_ == CONTAINERS_READY || is_ours(type_) || gates.contains(type_);
    let conditions = status.conditions.unwrap_or_default().into_iter().filter(|condition| is_kept(&condition.type_));
    let conditions: Vec<k8s::PodCondition> = conditions.map(condition).collect();
    let over: Vec<k8s::ContainerStatus> =
        status.container_statuses.unwrap_or_default().into_iter().filter_map(over).collect();
    let kept = k8s::PodStatus {
        phase: status.phase.filter(|phase| is_last_phase(phase)),
        pod_ips: status.pod_ips.filter(|ips| !ips.is_empty()),
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
        container_statuses: Some(over).filter(|over| !over.is_empty()),
        ..k8s::PodStatus::default()
    };
    pod.status = Some(kept).filter(|kept| *kept != k8s::PodStatus::default());
}

/// Whether two stripped pods differ in nothing but conditions that the controller writes.
pub(crate) fn is_same_but_ours(one: &k8s::Pod, other: &k8s::Pod) -> bool {
    let without_ours = |pod: &k8s::Pod| {
        let mut pod = pod.clone();
        if let Some(status) = &mut pod.status {
            let conditions = status.conditions.take().unwrap_or_default().into_iter();
            let conditions: Vec<_> = conditions.filter(|condition| !is_ours(&condition.type_)).collect();
            status.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
        }
        pod.status = pod.status.filter(|status| *status != k8s::PodStatus::default());
        pod
    };
    without_ours(one) == without_ours(other)
}

fn is_ours(type_: &str) -> bool {
    type_.starts_with(CONDITION_PREFIX)
}

/// Without the times, which change with every look of the kubelet; and reasons only where they are ours.
fn condition(condition: k8s::PodCondition) -> k8s::PodCondition {
    let is_ours = is_ours(&condition.type_);
    k8s::PodCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason.filter(|_| is_ours),
        message: condition.message.filter(|_| is_ours),
        ..k8s::PodCondition::default()
    }
}

/// A container that has ended, and how.
fn over(status: k8s::ContainerStatus) -> Option<k8s::ContainerStatus> {
    let ended = status.state?.terminated?;
    let terminated =
        k8s::ContainerStateTerminated { exit_code: ended.exit_code, ..k8s::ContainerStateTerminated::default() };
    let state = k8s::ContainerState { terminated: Some(terminated), ..k8s::ContainerState::default() };
    Some(k8s::ContainerStatus { name: status.name, state: Some(state), ..k8s::ContainerStatus::default() })
}
