use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use osm_api::k8s;
use proptest::prelude::*;

use super::*;
use crate::desired::{DesiredDeployment, Replacement};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn name(index: u8) -> NamespacedName {
    NamespacedName::new("shop", &format!("pod-{index}"))
}

fn web() -> NamespacedName {
    NamespacedName::new("shop", "web")
}

fn wanted_pod(revision: &str, owner: Option<Owner>) -> DesiredPod {
    DesiredPod { pod: Arc::new(k8s::Pod::default()), revision: revision.into(), owner }
}

fn running_pod(revision: &str, owner: Option<Owner>, is_ready: bool) -> RunningPod {
    RunningPod {
        revision: revision.into(),
        owner,
        phase: Phase::Running,
        ready_since: is_ready.then(|| at(0)),
        ended_at: None,
        restarts: 0,
        is_stopping: false,
    }
}

fn plan_at(desired: &Desired, running: &Running, seconds: i64) -> Plan {
    plan_for(desired, running, &JobRecords::new(), at(seconds))
}

/// What the executor does with the steps, if every stop and every start succeeds at once.
fn carry_out(running: &mut Running, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Stop(name) => assert!(running.remove(&name).is_some(), "stopped what does not run"),
            Action::Start(name, pod) => {
                let started = running_pod(&pod.revision, pod.owner, true);
                assert!(running.insert(name, started).is_none(), "started twice");
            }
        }
    }
}

/// A Deployment of so many replicas at this revision.
fn deployment(revision: &str, replicas: u8, replacement: Replacement) -> Desired {
    let owner = || Some(Owner::Deployment(web()));
    let pod = |index| (NamespacedName::new("shop", &format!("web-{revision}-{index}")), wanted_pod(revision, owner()));
    let how = DesiredDeployment { revision: revision.into(), replacement, min_ready: SignedDuration::ZERO };
    Desired {
        pods: (0..replicas).map(pod).collect(),
        deployments: BTreeMap::from([(web(), how)]),
        ..Desired::default()
    }
}

prop_compose! {
    /// Pods written down, and one Deployment.
    fn any_desired()(
        pods in prop::collection::btree_map(0..8_u8, 0..3_u8, 0..6),
        replicas in 0..6_u8,
        replacement in any_replacement(),
    ) -> Desired {
        let mut desired = deployment("new", replicas, replacement);
        desired.pods.extend(pods.into_iter().map(|(index, r)| (name(index), wanted_pod(&format!("r{r}"), None))));
        desired
    }
}

fn any_replacement() -> impl Strategy<Value = Replacement> {
    prop_oneof![
        Just(Replacement::Recreate),
        (0..4_usize, 0..4_usize).prop_map(|(max_surge, max_unavailable)| Replacement::Rolling {
            max_surge,
            max_unavailable: if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable },
        }),
    ]
}

prop_compose! {
    fn any_running()(
        pods in prop::collection::btree_map(0..8_u8, (0..3_u8, any::<bool>(), any::<bool>()), 0..6),
        replicas in prop::collection::btree_map((prop::sample::select(vec!["old", "older", "new"]), 0..8_u8),
            (any::<bool>(), any::<bool>()), 0..8),
    ) -> Running {
        let alone = pods.into_iter().map(|(index, (revision, is_ready, is_stopping))| {
            (name(index), RunningPod { is_stopping, ..running_pod(&format!("r{revision}"), None, is_ready) })
        });
        let ours = replicas.into_iter().map(|((revision, index), (is_ready, is_stopping))| {
            let pod = running_pod(revision, Some(Owner::Deployment(web())), is_ready);
            (NamespacedName::new("shop", &format!("web-{revision}-{index}")), RunningPod { is_stopping, ..pod })
        });
        alone.chain(ours).collect()
    }
}

proptest! {
    #[test]
    fn deletes_come_first_and_nothing_starts_under_a_name_in_use(desired in any_desired(), running in any_running()) {
        let actions = plan_at(&desired, &running, 1).actions;
        prop_assert_eq!(&actions, &plan_at(&desired, &running, 1).actions, "the same question has the same answer");
        let first_start = actions.iter().position(|a| matches!(a, Action::Start(..))).unwrap_or(actions.len());
        prop_assert!(actions[first_start..].iter().all(|a| matches!(a, Action::Start(..))));
        let mut touched = BTreeSet::new();
        for action in &actions {
            match action {
                Action::Start(name, _) => {
                    prop_assert!(touched.insert(name.clone()));
                    prop_assert!(!running.contains_key(name));
                }
                Action::Stop(name) => prop_assert!(touched.insert(name.clone()) && !running[name].is_stopping),
            }
        }
    }

    #[test]
    fn carried_out_it_ends_with_what_is_wanted(desired in any_desired(), mut running in any_running()) {
        for _ in 0..40 {
            running.retain(|_, pod| !pod.is_stopping);
            // A roll-out waits for ever for a new pod that never becomes ready; old ones need not.
            let new = running.values_mut().filter(|pod| pod.revision == "new");
            new.for_each(|pod| pod.ready_since = Some(at(0)));
            let actions = plan_at(&desired, &running, 1).actions;
            carry_out(&mut running, actions);
        }
        let names: Vec<_> = running.keys().collect();
        prop_assert_eq!(names, desired.pods.keys().collect::<Vec<_>>());
        for (name, pod) in &desired.pods {
            prop_assert_eq!(&running[name].revision, &pod.revision);
        }
        running.values_mut().for_each(|pod| pod.ready_since = Some(at(0)));
        prop_assert_eq!(plan_at(&desired, &running, 1).actions, vec![]);
    }

    /// Whenever new pods become ready and old ones are gone, in whatever order.
    #[test]
    fn a_rolling_update_keeps_within_its_bounds(
        old in 1..8_u8,
        replicas in 1..8_u8,
        (max_surge, max_unavailable) in (0..4_usize, 0..4_usize).prop_filter("one of them", |(s, u)| s + u > 0),
        order in prop::collection::vec((any::<bool>(), 0..8_usize), 0..80),
    ) {
        let desired = deployment("new", replicas, Replacement::Rolling { max_surge, max_unavailable });
        let mut running = Running::new();
        carry_out(&mut running, plan_at(&deployment("old", old, Replacement::Recreate), &Running::new(), 1).actions);
        let replicas = usize::from(replicas);
        let least = replicas.saturating_sub(max_unavailable).min(usize::from(old));
        let ready = |running: &Running| running.values().filter(|p| !p.is_stopping && p.ready_since.is_some()).count();
        let mut before = usize::from(old);
        for (becomes_ready, index) in order {
            for action in plan_at(&desired, &running, 1).actions {
                match action {
                    Action::Stop(name) => running.get_mut(&name).unwrap().is_stopping = true,
                    Action::Start(name, pod) => {
                        running.insert(name, running_pod(&pod.revision, pod.owner, false));
                    }
                }
            }
            let alive = running.values().filter(|pod| !pod.is_stopping).count();
            prop_assert!(alive <= (replicas + max_surge).max(before), "{alive} pods");
            prop_assert!(ready(&running) >= least, "{} of {least} are available", ready(&running));
            before = alive;
            if becomes_ready {
                let unready = running.values_mut().filter(|pod| pod.ready_since.is_none() && !pod.is_stopping);
                unready.skip(index).take(1).for_each(|pod| pod.ready_since = Some(at(0)));
            } else {
                let stopping = running.iter().filter(|(_, pod)| pod.is_stopping).map(|(name, _)| name.clone());
                let gone: Vec<NamespacedName> = stopping.skip(index).take(1).collect();
                gone.iter().for_each(|name| { running.remove(name); });
            }
        }
    }
}

#[test]
fn the_old_pods_of_a_deployment_serve_until_the_new_ones_do() {
    let how = Replacement::Rolling { max_surge: 1, max_unavailable: 0 };
    let mut desired = deployment("b", 1, how);
    desired.deployments.get_mut(&web()).unwrap().min_ready = SignedDuration::from_secs(5);
    let (old, new) = (NamespacedName::new("shop", "web-a-0"), NamespacedName::new("shop", "web-b-0"));
    let mut running = Running::from([(old.clone(), running_pod("a", Some(Owner::Deployment(web())), true))]);
    let plan = plan_at(&desired, &running, 0);
    assert_eq!(plan.actions, [Action::Start(new.clone(), desired.pods[&new].clone())]);
    carry_out(&mut running, plan.actions);
    running.get_mut(&new).unwrap().ready_since = None;
    assert_eq!(plan_at(&desired, &running, 10), Plan::default());
    // Ready is not available yet.
    running.get_mut(&new).unwrap().ready_since = Some(at(10));
    assert_eq!(plan_at(&desired, &running, 14), Plan { wake_at: Some(at(15)), ..Plan::default() });
    assert_eq!(plan_at(&desired, &running, 15).actions, [Action::Stop(old)]);
}

#[test]
fn a_quarter_more_and_a_quarter_less_at_a_time() {
    let count = |replicas: u8, running: &mut Running, max_surge, max_unavailable| {
        let desired = deployment("b", replicas, Replacement::Rolling { max_surge, max_unavailable });
        let actions = plan_at(&desired, running, 1).actions;
        let starts = actions.iter().filter(|a| matches!(a, Action::Start(..))).count();
        (starts, actions.len() - starts)
    };
    let mut running = Running::new();
    carry_out(&mut running, plan_at(&deployment("a", 8, Replacement::Recreate), &Running::new(), 1).actions);
    assert_eq!(count(8, &mut running, 2, 2), (2, 2));
    assert_eq!(count(8, &mut running, 0, 1), (0, 1));
    assert_eq!(count(8, &mut running, 8, 0), (8, 0));
}

#[test]
fn shares_are_rounded_so_that_there_are_never_too_few() {
    use rollout::{Rounding, resolved};
    let check = |value: k8s::IntOrString, replicas: usize, expected: (Option<usize>, Option<usize>)| {
        let both = (resolved(&value, replicas, Rounding::Up), resolved(&value, replicas, Rounding::Down));
        assert_eq!(both, expected, "{value:?} of {replicas}");
    };
    let share = |text: &str| k8s::IntOrString::String(text.into());
    check(share("25%"), 1, (Some(1), Some(0)));
    check(share("25%"), 10, (Some(3), Some(2)));
    check(k8s::IntOrString::Int(2), 10, (Some(2), Some(2)));
    check(share("2"), 10, (None, None));
    check(k8s::IntOrString::Int(-1), 10, (None, None));
}
