//! The runner's next steps, from what should run and what does.

mod job;
pub(crate) mod rollout;

use std::collections::BTreeMap;

use jiff::Timestamp;
use osm_api::{NamespacedName, World};

use crate::desired::{Desired, DesiredPod, Owner, desired};
use crate::pod::Phase;

pub use job::{JobEnd, JobProgress, JobState};

/// The pods that run, by name.
pub type Running = BTreeMap<NamespacedName, RunningPod>;

/// What the planner must know of a pod that runs, or ran and is not forgotten yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// The revision of the [`DesiredPod`] that it was started from.
    pub revision: String,
    /// What it was started for; none for a pod that was written down itself.
    pub owner: Option<Owner>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when it is ready to serve; none while it is not.
    pub ready_since: Option<Timestamp>,
    /// When it succeeded or failed.
    pub ended_at: Option<Timestamp>,
    /// How often its containers were started again.
    pub restarts: u32,
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

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps. All stops come first.
    pub actions: Vec<Action>,
    /// How far each Job is.
    pub jobs: BTreeMap<NamespacedName, JobProgress>,
    /// When to plan again even if nothing happens until then.
    pub wake_at: Option<Timestamp>,
}

/// What the runner remembers of a Job, because the pods that tell it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The Job as it was then; another revision starts anew.
    pub revision: String,
    /// When the runner took it in.
    pub started_at: Timestamp,
    /// How it ended, if it has.
    pub end: Option<JobEnd>,
}

/// The Jobs that the runner remembers.
pub type JobRecords = BTreeMap<NamespacedName, JobRecord>;

/// The steps at `now` from `running` towards what a completed `world` asks for. A pod is replaced by stopping it; its
/// successor is planned when it is gone, or beside it as its Deployment allows.
pub fn plan(world: &World, running: &Running, records: &JobRecords, now: Timestamp) -> Plan {
    plan_for(&desired(world), running, records, now)
}

/// The same, for what is known already.
pub(crate) fn plan_for(desired: &Desired, running: &Running, records: &JobRecords, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut starts = Vec::new();
    let is_wanted_alone =
        |name: &NamespacedName, pod: &RunningPod| desired.pods.get(name).is_some_and(|w| w.revision == pod.revision);
    for (name, pod) in running.iter().filter(|(_, pod)| !pod.is_stopping) {
        let is_for_others = match &pod.owner {
            Some(Owner::Deployment(deployment)) => desired.deployments.contains_key(deployment),
            Some(Owner::Job(job)) => desired.jobs.contains_key(job),
            None => false,
        };
        if !is_for_others && !is_wanted_alone(name, pod) {
            plan.actions.push(Action::Stop(name.clone()));
        }
    }
    let free = desired.pods.iter().filter(|(name, pod)| pod.owner.is_none() && !running.contains_key(*name));
    starts.extend(free.map(|(name, pod)| Action::Start(name.clone(), pod.clone())));
    for (name, deployment) in &desired.deployments {
        let rollout = rollout::rollout(name, deployment, &desired.pods, running, now);
        plan.actions.extend(rollout.stops.into_iter().map(Action::Stop));
        starts.extend(rollout.starts.into_iter().map(|(name, pod)| Action::Start(name, pod)));
        plan.wake_at = earlier(plan.wake_at, rollout.wake_at);
    }
    for (name, wanted) in &desired.jobs {
        let record = records.get(name).filter(|record| record.revision == wanted.revision);
        let progress = job::progress(name, wanted, running, record, now);
        plan.actions.extend(progress.stops.iter().cloned().map(Action::Stop));
        let mut room = crate::desired::MAX_PODS.saturating_sub(running.len());
        let mut number = 0;
        while room > 0 && progress.to_start > number {
            let (name, pod) = wanted.pod_number(name, |name| {
                running.contains_key(name)
                    || desired.pods.contains_key(name)
                    || starts.iter().any(|action| matches!(action, Action::Start(taken, _) if taken == name))
            });
            starts.push(Action::Start(name, pod));
            (room, number) = (room - 1, number + 1);
        }
        plan.wake_at = earlier(plan.wake_at, progress.wake_at);
        plan.jobs.insert(name.clone(), progress);
    }
    plan.actions.extend(starts);
    plan
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests;
