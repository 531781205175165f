use std::sync::Arc;

use osm_api::k8s;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pi() -> NamespacedName {
    NamespacedName::new("default", "pi")
}

fn job() -> DesiredJob {
    DesiredJob {
        pod: Arc::new(k8s::Pod::default()),
        revision: "r".into(),
        completions: Some(1),
        parallelism: 1,
        backoff_limit: 6,
        restarts_in_place: false,
        deadline: None,
        is_suspended: false,
    }
}

/// Pods of the Job, each in a phase; those that are over ended at this second.
fn pods(phases: &[(Phase, i64)]) -> Running {
    let pods = phases.iter().enumerate().map(|(index, (phase, ended))| {
        let is_over = matches!(phase, Succeeded | Failed);
        let pod = RunningPod {
            revision: "r".into(),
            owner: Some(Owner::Job(pi())),
            phase: *phase,
            ready_since: None,
            ended_at: is_over.then(|| at(*ended)),
            restarts: 0,
            is_stopping: false,
        };
        (NamespacedName::new("default", &format!("pi-{index}")), pod)
    });
    pods.collect()
}

/// Whether it goes on, how many pods start, how many stop, and when to look again.
fn check(job: &DesiredJob, running: &Running, now: i64, expected: (JobState, usize, usize, Option<i64>)) {
    let record = JobRecord { revision: "r".into(), started_at: at(0), end: None };
    let progress = progress(&pi(), job, running, Some(&record), at(now));
    let wake = progress.wake_at.map(|wake| wake.duration_since(at(0)).as_secs());
    assert_eq!((progress.state, progress.to_start, progress.stops.len(), wake), expected);
}

fn given_up(reason: &str) -> JobState {
    JobState::Over(JobEnd::Failed { reason: reason.into() })
}

use Phase::{Failed, Pending, Running as Runs, Succeeded};

#[test]
fn a_job_is_complete_when_as_many_pods_succeeded_as_it_asks_for() {
    check(&job(), &pods(&[]), 0, (JobState::Running, 1, 0, None));
    check(&job(), &pods(&[(Pending, 0)]), 0, (JobState::Running, 0, 0, None));
    check(&job(), &pods(&[(Succeeded, 0)]), 0, (JobState::Over(JobEnd::Complete), 0, 0, None));
    let many = DesiredJob { completions: Some(5), parallelism: 3, ..job() };
    check(&many, &pods(&[(Runs, 0)]), 0, (JobState::Running, 2, 0, None));
    check(
        &many,
        &pods(&[(Succeeded, 0), (Succeeded, 0), (Succeeded, 0), (Runs, 0)]),
        0,
        (JobState::Running, 1, 0, None),
    );
    check(&DesiredJob { completions: Some(0), ..job() }, &pods(&[]), 0, (JobState::Over(JobEnd::Complete), 0, 0, None));
}

#[test]
fn pods_that_share_a_queue_are_not_replaced_once_one_has_found_it_empty() {
    let queue = DesiredJob { completions: None, parallelism: 3, ..job() };
    check(&queue, &pods(&[(Runs, 0)]), 0, (JobState::Running, 2, 0, None));
    check(&queue, &pods(&[(Runs, 0), (Succeeded, 0), (Runs, 0)]), 0, (JobState::Running, 0, 0, None));
    check(&queue, &pods(&[(Succeeded, 0), (Failed, 0)]), 0, (JobState::Over(JobEnd::Complete), 0, 0, None));
}

#[test]
fn after_each_failure_the_next_pod_waits_longer_until_there_were_too_many() {
    check(&job(), &pods(&[(Failed, 5)]), 14, (JobState::Running, 0, 0, Some(15)));
    check(&job(), &pods(&[(Failed, 5)]), 15, (JobState::Running, 1, 0, None));
    check(&job(), &pods(&[(Failed, 5), (Failed, 20)]), 20, (JobState::Running, 0, 0, Some(40)));
    check(&job(), &pods(&[(Failed, 0); 6]), 0, (JobState::Running, 0, 0, Some(320)));
    check(&job(), &pods(&[(Failed, 0); 7]), 1, (given_up("BackoffLimitExceeded"), 0, 0, None));
    let never_again = DesiredJob { backoff_limit: 0, parallelism: 2, completions: Some(2), ..job() };
    check(&never_again, &pods(&[(Failed, 0), (Runs, 0)]), 0, (given_up("BackoffLimitExceeded"), 0, 1, None));
    // A success in between begins anew.
    let two = DesiredJob { completions: Some(2), ..job() };
    check(
        &two,
        &pods(&[(Failed, 0), (Failed, 1), (Succeeded, 5), (Failed, 6)]),
        7,
        (JobState::Running, 0, 0, Some(16)),
    );
}

#[test]
fn restarts_within_the_pod_count_against_the_limit() {
    let in_place = DesiredJob { restarts_in_place: true, backoff_limit: 2, ..job() };
    let restarted = |restarts: u32| {
        let mut running = pods(&[(Runs, 0)]);
        running.values_mut().for_each(|pod| pod.restarts = restarts);
        running
    };
    check(&in_place, &restarted(1), 0, (JobState::Running, 0, 0, None));
    check(&in_place, &restarted(2), 0, (given_up("BackoffLimitExceeded"), 0, 1, None));
    check(&job(), &restarted(9), 0, (JobState::Running, 0, 0, None));
}

#[test]
fn its_own_time_and_its_suspension_stop_what_runs() {
    let short = DesiredJob { deadline: Some(SignedDuration::from_secs(9)), ..job() };
    check(&short, &pods(&[(Runs, 0)]), 8, (JobState::Running, 0, 0, Some(9)));
    check(&short, &pods(&[(Runs, 0)]), 9, (given_up("DeadlineExceeded"), 0, 1, None));
    check(&DesiredJob { is_suspended: true, ..job() }, &pods(&[(Runs, 0)]), 0, (JobState::Suspended, 0, 1, None));
}

#[test]
fn what_has_ended_stays_so_and_what_was_changed_begins_when_the_old_pods_are_gone() {
    let end = Some(JobEnd::Failed { reason: "DeadlineExceeded".into() });
    let record = JobRecord { revision: "r".into(), started_at: at(0), end };
    let after = progress(&pi(), &job(), &pods(&[]), Some(&record), at(0));
    assert_eq!((after.state, after.to_start), (given_up("DeadlineExceeded"), 0));
    let changed = DesiredJob { revision: "other".into(), ..job() };
    check(&changed, &pods(&[(Succeeded, 0), (Runs, 0)]), 0, (JobState::Running, 0, 2, None));
}
