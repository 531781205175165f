//! A Deployment's next steps: from the pods of earlier templates to those of the present one, by the rules of
//! Kubernetes. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use osm_api::NamespacedName;

use super::{Running, RunningPod};
use crate::desired::{DesiredDeployment, DesiredPod, Owner, Replacement};

/// What to do for one Deployment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rollout {
    pub(super) stops: Vec<NamespacedName>,
    pub(super) starts: Vec<(NamespacedName, DesiredPod)>,
    /// When a pod that is ready begins to count as available.
    pub(super) wake_at: Option<Timestamp>,
}

/// The next steps at `now`.
pub(super) fn rollout(
    name: &NamespacedName,
    deployment: &DesiredDeployment,
    wanted: &BTreeMap<NamespacedName, DesiredPod>,
    running: &Running,
    now: Timestamp,
) -> Rollout {
    let is_ours = |owner: &Option<Owner>| matches!(owner, Some(Owner::Deployment(d)) if d == name);
    let new: BTreeMap<&NamespacedName, &DesiredPod> = wanted.iter().filter(|(_, pod)| is_ours(&pod.owner)).collect();
    let ours: Vec<(&NamespacedName, &RunningPod)> = running.iter().filter(|(_, pod)| is_ours(&pod.owner)).collect();
    let alive = ours.iter().copied().filter(|(_, pod)| !pod.is_stopping);
    let (surplus, alive): (Vec<_>, Vec<_>) =
        alive.partition(|(name, pod)| pod.revision == deployment.revision && !new.contains_key(*name));
    let (current, old): (Vec<_>, Vec<_>) = alive.iter().copied().partition(|(name, _)| new.contains_key(*name));
    let available_at = |pod: &RunningPod| pod.ready_since.map(|since| since + deployment.min_ready);
    let is_available = |pod: &RunningPod| available_at(pod).is_some_and(|at| at <= now);
    let waiting = current.iter().filter_map(|(_, pod)| available_at(pod)).filter(|at| *at > now);
    let mut rollout = Rollout { wake_at: waiting.min(), ..Rollout::default() };
    // Fewer replicas of the same template replace nothing: the last ones go at once.
    rollout.stops.extend(surplus.iter().map(|(name, _)| (*name).clone()));
    let may_start = match deployment.replacement {
        Replacement::Recreate => {
            rollout.stops.extend(old.iter().map(|(name, _)| (*name).clone()));
            let others_are_left = ours.iter().any(|(_, pod)| pod.revision != deployment.revision);
            if others_are_left { 0 } else { new.len() }
        }
        Replacement::Rolling { max_surge, max_unavailable } => {
            let must_be_available = new.len().saturating_sub(max_unavailable);
            let new_unavailable = current.iter().filter(|(_, pod)| !is_available(pod)).count();
            // Old pods that serve nobody go first, but not in place of new ones that do not serve yet.
            let may_go = alive.len().saturating_sub(must_be_available + new_unavailable);
            let (serving, idle): (Vec<_>, Vec<_>) = old.iter().copied().partition(|(_, pod)| is_available(pod));
            let idle_stops: Vec<NamespacedName> = idle.iter().take(may_go).map(|(name, _)| (*name).clone()).collect();
            let available = alive.iter().filter(|(_, pod)| is_available(pod)).count();
            let spare = available.saturating_sub(must_be_available);
            rollout.stops.extend(idle_stops);
            rollout.stops.extend(serving.iter().take(spare).map(|(name, _)| (*name).clone()));
            (new.len() + max_surge).saturating_sub(alive.len())
        }
    };
    let free = new.iter().filter(|(name, _)| !running.contains_key(**name));
    rollout.starts.extend(free.take(may_start).map(|(name, pod)| ((*name).clone(), (*pod).clone())));
    rollout
}

/// How many pods `value` stands for: a number, or a share of the replicas.
pub(crate) fn resolved(value: &osm_api::k8s::IntOrString, replicas: usize, rounding: Rounding) -> Option<usize> {
    match value {
        osm_api::k8s::IntOrString::Int(number) => usize::try_from(*number).ok(),
        osm_api::k8s::IntOrString::String(text) => {
            let percent: usize = text.strip_suffix('%')?.parse().ok()?;
            let hundredths = replicas.checked_mul(percent)?;
            Some(match rounding {
                Rounding::Up => hundredths.div_ceil(100),
                Rounding::Down => hundredths / 100,
            })
        }
    }
}

/// A surge is rounded up and what may be missing down, so that there are never fewer pods than was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Up,
    Down,
}

/// A number of seconds that is not below zero.
pub(crate) fn seconds(value: Option<i32>) -> SignedDuration {
    SignedDuration::from_secs(i64::from(value.unwrap_or(0).max(0)))
}
