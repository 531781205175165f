use std::sync::Arc;

use osm_api::k8s;
use proptest::prelude::*;

use super::*;

fn name(index: u8) -> NamespacedName {
    NamespacedName::new("shop", &format!("pod-{index}"))
}

fn wanted_pod(revision: u8, deployment: Option<(u8, bool)>) -> DesiredPod {
    let replacement = |is_rolling| if is_rolling { Replacement::Rolling } else { Replacement::Recreate };
    DesiredPod {
        pod: Arc::new(k8s::Pod::default()),
        revision: format!("r{revision}"),
        deployment: deployment.map(|(d, rolling)| (name(200 + d), replacement(rolling))),
    }
}

/// What the executor does with the steps, if every stop and every start succeeds at once.
fn carry_out(running: &mut Running, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Stop(name) => assert!(running.remove(&name).is_some(), "stopped what does not run"),
            Action::Start(name, pod) => {
                let started = RunningPod {
                    revision: pod.revision,
                    deployment: pod.deployment.map(|(d, _)| d),
                    is_ready: true,
                    is_stopping: false,
                };
                assert!(running.insert(name, started).is_none(), "started twice");
            }
        }
    }
}

prop_compose! {
    fn any_wanted()(pods in prop::collection::btree_map(
        0..8_u8, (0..3_u8, prop::option::of(0..2_u8)), 0..6)) -> BTreeMap<NamespacedName, DesiredPod> {
        // The template is the Deployment's, so that all of its pods have one revision, and its name depends on it.
        pods.into_iter().map(|(index, (revision, deployment))| match deployment {
            Some(d) => (name(index * 10 + 1 + d), wanted_pod(100 + d, Some((d, d == 0)))),
            None => (name(index * 10), wanted_pod(revision, None)),
        }).collect()
    }
}

prop_compose! {
    fn any_running()(pods in prop::collection::btree_map(
        0..8_u8, (0..4_u8, prop::option::of(0..2_u8), any::<bool>(), any::<bool>()), 0..6)) -> Running {
        pods.into_iter().map(|(index, (revision, deployment, is_ready, is_stopping))| {
            let revision = deployment.map_or(revision, |d| 99 + d);
            let deployment_name = deployment.map(|d| name(200 + d));
            let pod = RunningPod { revision: format!("r{revision}"), deployment: deployment_name, is_ready, is_stopping };
            (name(index * 10 + deployment.map_or(0, |d| d + 5)), pod)
        }).collect()
    }
}

proptest! {
    #[test]
    fn deletes_come_first_and_nothing_starts_under_a_name_in_use(wanted in any_wanted(), running in any_running()) {
        let actions = plan_for(&wanted, &running);
        prop_assert_eq!(&actions, &plan_for(&wanted, &running), "the same question has the same answer");
        let first_start = actions.iter().position(|a| matches!(a, Action::Start(..))).unwrap_or(actions.len());
        prop_assert!(actions[first_start..].iter().all(|a| matches!(a, Action::Start(..))));
        let mut started = BTreeSet::new();
        for action in &actions {
            match action {
                Action::Start(name, _) => {
                    prop_assert!(started.insert(name.clone()));
                    prop_assert!(!running.contains_key(name));
                }
                Action::Stop(name) => prop_assert!(!running[name].is_stopping),
            }
        }
    }

    #[test]
    fn carried_out_it_ends_with_what_is_wanted(wanted in any_wanted(), mut running in any_running()) {
        for _ in 0..4 {
            running.retain(|_, pod| !pod.is_stopping);
            let actions = plan_for(&wanted, &running);
            carry_out(&mut running, actions);
        }
        let names: Vec<_> = running.keys().collect();
        prop_assert_eq!(names, wanted.keys().collect::<Vec<_>>());
        for (name, pod) in &wanted {
            prop_assert_eq!(&running[name].revision, &pod.revision);
        }
        running.values_mut().for_each(|pod| pod.is_ready = true);
        prop_assert_eq!(plan_for(&wanted, &running), vec![]);
    }
}

#[test]
fn the_old_pods_of_a_deployment_serve_until_the_new_ones_do() {
    let old = RunningPod { revision: "r1".into(), deployment: Some(name(200)), is_ready: true, is_stopping: false };
    let mut running = Running::from([(name(1), old)]);
    let wanted = BTreeMap::from([(name(2), wanted_pod(2, Some((0, true))))]);
    let actions = plan_for(&wanted, &running);
    assert_eq!(actions, [Action::Start(name(2), wanted[&name(2)].clone())]);
    carry_out(&mut running, actions);
    running.get_mut(&name(2)).unwrap().is_ready = false;
    assert_eq!(plan_for(&wanted, &running), []);
    running.get_mut(&name(2)).unwrap().is_ready = true;
    assert_eq!(plan_for(&wanted, &running), [Action::Stop(name(1))]);
}
