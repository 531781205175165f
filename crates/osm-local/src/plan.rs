//! The runner's next steps, from what should run and what does.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{NamespacedName, World};

use crate::desired::{DesiredPod, Replacement, desired};

/// The pods that run, by name.
pub type Running = BTreeMap<NamespacedName, RunningPod>;

/// What the planner must know of a pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// The revision of the [`DesiredPod`] that it was started from.
    pub revision: String,
    /// The Deployment that it was started for.
    pub deployment: Option<NamespacedName>,
    /// Whether it is ready to serve.
    pub is_ready: bool,
    /// Whether it has been told to stop and is not gone yet.
    pub is_stopping: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Stop the pod, and forget it when it is gone.
    Stop(NamespacedName),
    /// Start the pod, under a name that nothing runs under.
    Start(NamespacedName, DesiredPod),
}

/// The steps from `running` towards what a completed `world` asks for. All stops come first. A pod is replaced by
/// stopping it; its successor is planned when it is gone.
pub fn plan(world: &World, running: &Running) -> Vec<Action> {
    plan_for(&desired(world).pods, running)
}

/// The same, for pods that are known already.
pub(crate) fn plan_for(wanted: &BTreeMap<NamespacedName, DesiredPod>, running: &Running) -> Vec<Action> {
    let unready: BTreeSet<&NamespacedName> = wanted
        .iter()
        .filter(|(name, pod)| !running.get(*name).is_some_and(|r| r.is_ready && r.revision == pod.revision))
        .filter_map(|(_, pod)| pod.deployment.as_ref())
        .filter(|(_, replacement)| *replacement == Replacement::Rolling)
        .map(|(deployment, _)| deployment)
        .collect();
    let is_current = |name: &NamespacedName, pod: &RunningPod| {
        wanted.get(name).is_some_and(|wanted| wanted.revision == pod.revision)
    };
    let stops = running.iter().filter(|(name, pod)| {
        // An old pod of a Deployment that rolls serves until all of the new ones do.
        let serves_on = pod.deployment.as_ref().is_some_and(|d| unready.contains(d)) && !wanted.contains_key(*name);
        // Fewer replicas of the same template replace nothing.
        let is_surplus = pod.deployment.as_ref().is_some_and(|d| is_same_template(wanted, d, &pod.revision));
        !pod.is_stopping && !is_current(name, pod) && (!serves_on || is_surplus)
    });
    let mut actions: Vec<Action> = stops.map(|(name, _)| Action::Stop(name.clone())).collect();
    let blocked = |pod: &DesiredPod| {
        pod.deployment.as_ref().is_some_and(|(deployment, replacement)| match replacement {
            Replacement::Rolling => false,
            Replacement::Recreate => {
                running.values().any(|old| old.deployment.as_ref() == Some(deployment) && old.revision != pod.revision)
            }
        })
    };
    let starts = wanted.iter().filter(|(name, pod)| !running.contains_key(*name) && !blocked(pod));
    actions.extend(starts.map(|(name, pod)| Action::Start(name.clone(), pod.clone())));
    actions
}

fn is_same_template(
    wanted: &BTreeMap<NamespacedName, DesiredPod>,
    deployment: &NamespacedName,
    revision: &str,
) -> bool {
    wanted.values().any(|w| w.revision == revision && w.deployment.as_ref().is_some_and(|(d, _)| d == deployment))
}

#[cfg(test)]
mod tests;
