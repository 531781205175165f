//! A Job's next steps and how far it is, by the rules of Kubernetes. Pure.

use jiff::{SignedDuration, Timestamp};
use osm_api::NamespacedName;

use super::{JobRecord, Running, RunningPod};
use crate::desired::{DesiredJob, Owner};
use crate::pod::Phase;

/// The delay before the pod that follows the first failure; it doubles with each further one.
const FIRST_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// No pod waits longer.
const DELAY_LIMIT: SignedDuration = SignedDuration::from_secs(600);

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobProgress {
    /// Whether it goes on.
    pub state: JobState,
    /// Pods that run or are about to.
    pub active: usize,
    /// Pods that succeeded.
    pub succeeded: usize,
    /// Pods that failed.
    pub failed: usize,
    /// How many pods to start now.
    pub(super) to_start: usize,
    /// The pods to stop now.
    pub(super) stops: Vec<NamespacedName>,
    /// When a delay or the Job's own time is over.
    pub(super) wake_at: Option<Timestamp>,
}

/// Whether a Job goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on.
    Running,
    /// It has been told not to start pods.
    Suspended,
    /// It is over.
    Over(JobEnd),
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// As many pods succeeded as were asked for.
    Complete,
    /// It was given up.
    Failed {
        /// The condition's reason in Kubernetes.
        reason: String,
    },
}

/// How far the Job is at `now`, and what to do. Once a record says that it has ended, nothing starts again.
pub(super) fn progress(
    name: &NamespacedName,
    job: &DesiredJob,
    running: &Running,
    record: Option<&JobRecord>,
    now: Timestamp,
) -> JobProgress {
    let is_ours = |pod: &RunningPod| matches!(&pod.owner, Some(Owner::Job(owner)) if owner == name);
    let (ours, earlier): (Vec<_>, Vec<_>) =
        running.iter().filter(|(_, pod)| is_ours(pod)).partition(|(_, pod)| pod.revision == job.revision);
    // Pods that are being stopped count for nothing any more.
    let ours: Vec<_> = ours.into_iter().filter(|(_, pod)| !pod.is_stopping).collect();
    let is_active = |pod: &RunningPod| matches!(pod.phase, Phase::Pending | Phase::Running);
    let active: Vec<_> = ours.iter().filter(|(_, pod)| is_active(pod)).collect();
    let count = |phase: Phase| ours.iter().filter(|(_, pod)| pod.phase == phase).count();
    let (succeeded, failed) = (count(Phase::Succeeded), count(Phase::Failed));
    let deadline = job.deadline.zip(record).map(|(deadline, record)| record.started_at + deadline);
    let restarts: u32 = active.iter().map(|(_, pod)| pod.restarts).sum();
    let end = match record.and_then(|record| record.end.clone()) {
        Some(end) => Some(end),
        None if is_complete(job, succeeded, active.len()) => Some(JobEnd::Complete),
        None if failed > job.backoff_limit || is_past_limit(job, restarts) => Some(failure("BackoffLimitExceeded")),
        None if deadline.is_some_and(|at| at <= now) => Some(failure("DeadlineExceeded")),
        None => None,
    };
    let mut stops: Vec<NamespacedName> =
        earlier.iter().filter(|(_, pod)| !pod.is_stopping).map(|(name, _)| (*name).clone()).collect();
    let mut progress = JobProgress {
        state: JobState::Running,
        active: active.len(),
        succeeded,
        failed,
        to_start: 0,
        stops: Vec::new(),
        wake_at: None,
    };
    let wanted = match job.completions {
        _ if end.is_some() || job.is_suspended => 0,
        Some(completions) => job.parallelism.min(completions.saturating_sub(succeeded)),
        // The pods share a queue: once one of them has found it empty, no more are needed.
        None if succeeded > 0 => active.len(),
        None => job.parallelism,
    };
    stops.extend(active.iter().skip(wanted).map(|(name, _)| (*name).clone()));
    let resume_at = delayed_until(&ours);
    if wanted > active.len() {
        match resume_at.filter(|at| *at > now) {
            Some(at) => progress.wake_at = Some(at),
            // Those of an earlier revision are waited for, so that two never work at a time.
            None if earlier.is_empty() => progress.to_start = wanted - active.len(),
            None => {}
        }
    }
    if end.is_none() {
        progress.wake_at = super::earlier(progress.wake_at, deadline);
    }
    progress.state = match end {
        Some(end) => JobState::Over(end),
        None if job.is_suspended => JobState::Suspended,
        None => JobState::Running,
    };
    progress.stops = stops;
    progress
}

fn failure(reason: &str) -> JobEnd {
    JobEnd::Failed { reason: reason.to_owned() }
}

fn is_complete(job: &DesiredJob, succeeded: usize, active: usize) -> bool {
    match job.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active == 0,
    }
}

/// Containers that start again within their pod count as well, as the Job controller counts them.
fn is_past_limit(job: &DesiredJob, restarts: u32) -> bool {
    let restarts = usize::try_from(restarts).unwrap_or(usize::MAX);
    job.restarts_in_place && restarts > 0 && restarts >= job.backoff_limit
}

/// When the next pod may start: after a failure, and later after each further one since the last success.
fn delayed_until(ours: &[(&NamespacedName, &RunningPod)]) -> Option<Timestamp> {
    let ended =
        |phase: Phase| ours.iter().filter(move |(_, pod)| pod.phase == phase).filter_map(|(_, pod)| pod.ended_at);
    let last_success = ended(Phase::Succeeded).max();
    let failures: Vec<Timestamp> = ended(Phase::Failed).filter(|at| last_success.is_none_or(|s| *at > s)).collect();
    let last = failures.iter().max()?;
    let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
    Some(*last + (FIRST_DELAY * 2_i32.pow(doublings)).min(DELAY_LIMIT))
}

#[cfg(test)]
mod tests;
