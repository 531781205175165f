use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn spec(policy: &str, init: &[(&str, bool)], apps: &[&str]) -> k8s::PodSpec {
    let container = |name: &str| k8s::Container { name: name.into(), ..Default::default() };
    k8s::PodSpec {
        restart_policy: Some(policy.into()),
        init_containers: Some(
            init.iter()
                .map(|(name, is_sidecar)| k8s::Container {
                    restart_policy: is_sidecar.then(|| "Always".into()),
                    ..container(name)
                })
                .collect(),
        ),
        containers: apps.iter().map(|name| container(name)).collect(),
        ..Default::default()
    }
}

fn startup_probe() -> k8s::Probe {
    k8s::Probe { tcp_socket: Some(k8s::TCPSocketAction::default()), ..Default::default() }
}

#[test]
fn init_containers_run_one_after_the_other_and_then_all_apps_start() {
    let mut pod = Lifecycle::new(&spec("Always", &[("a", false), ("b", false)], &["c", "d"]));
    assert_eq!(pod.next(at(0)), [Step::Start(0)]);
    assert_eq!(pod.next(at(0)), []);
    assert_eq!(pod.waits_for(), "init container a to end");
    pod.on_exit(0, 0, at(1));
    assert_eq!(pod.next(at(1)), [Step::Start(1)]);
    assert_eq!(pod.phase(), Phase::Pending);
    pod.on_exit(1, 0, at(2));
    assert_eq!(pod.next(at(2)), [Step::Start(2), Step::Start(3)]);
    assert_eq!((pod.phase(), pod.is_ready(), pod.waits_for()), (Phase::Running, true, String::new()));
}

#[test]
fn a_native_sidecar_holds_back_the_next_container_until_its_startup_probe_passes() {
    let mut spec = spec("Never", &[("proxy", true), ("migrate", false)], &["app"]);
    spec.init_containers.as_mut().unwrap()[0].startup_probe = Some(startup_probe());
    let mut pod = Lifecycle::new(&spec);
    assert_eq!(pod.next(at(0)), [Step::Start(0)]);
    assert_eq!(pod.next(at(0)), []);
    assert_eq!(pod.waits_for(), "sidecar proxy to pass its startup probe");
    pod.on_startup_passed(0);
    assert_eq!(pod.next(at(0)), [Step::Start(1)]);
    pod.on_exit(1, 0, at(0));
    assert_eq!(pod.next(at(0)), [Step::Start(2)]);
    // It restarts although the pod never does, and the app is left alone.
    pod.on_exit(0, 137, at(1));
    assert_eq!(pod.next(at(1)), [Step::Start(0)]);
    assert!(!pod.is_ready());
    pod.on_startup_passed(0);
    assert!(pod.is_ready());
    // It is stopped after the app, and its exit code does not count.
    pod.on_exit(2, 0, at(2));
    assert_eq!(pod.next(at(2)), [Step::Stop(0)]);
    assert_eq!(pod.next(at(2)), []);
    assert_eq!(pod.phase(), Phase::Running);
    pod.on_exit(0, 143, at(3));
    assert_eq!((pod.next(at(3)), pod.phase(), pod.is_over()), (vec![], Phase::Succeeded, true));
}

#[test]
fn the_next_container_waits_for_the_hook_of_the_one_before_it() {
    let mut spec = spec("Always", &[], &["first", "second"]);
    let hook = k8s::LifecycleHandler { exec: Some(k8s::ExecAction::default()), ..Default::default() };
    spec.containers[0].lifecycle = Some(k8s::Lifecycle { post_start: Some(hook), ..Default::default() });
    let mut pod = Lifecycle::new(&spec);
    assert_eq!(pod.next(at(0)), [Step::Start(0)]);
    assert_eq!((pod.next(at(0)), pod.phase()), (vec![], Phase::Pending));
    assert_eq!(pod.waits_for(), "container first to end its postStart hook");
    pod.on_post_start_done(0);
    assert_eq!(pod.next(at(1)), [Step::Start(1)]);
    assert!(pod.is_ready());
    // Later its hook holds back nobody but itself.
    pod.on_exit(0, 1, at(2));
    pod.on_exit(1, 1, at(2));
    assert_eq!(pod.next(at(2)), [Step::Start(0), Step::Start(1)]);
    assert!(!pod.is_ready());
    pod.on_post_start_done(0);
    assert!(pod.is_ready());
}

#[test]
fn the_restart_policy_is_the_kubelets() {
    let ends = |policy: &str, code: i32| {
        let mut pod = Lifecycle::new(&spec(policy, &[], &["app"]));
        pod.next(at(0));
        pod.on_exit(0, code, at(1));
        (pod.next(at(1)).len() == 1, pod.phase())
    };
    assert_eq!(ends("Always", 0), (true, Phase::Running));
    assert_eq!(ends("Always", 1), (true, Phase::Running));
    assert_eq!(ends("OnFailure", 0), (false, Phase::Succeeded));
    assert_eq!(ends("OnFailure", 1), (true, Phase::Running));
    assert_eq!(ends("Never", 0), (false, Phase::Succeeded));
    assert_eq!(ends("Never", 1), (false, Phase::Failed));
}

#[test]
fn restarts_wait_longer_and_longer_unless_the_container_ran_for_long() {
    let mut pod = Lifecycle::new(&spec("Always", &[], &["app"]));
    let mut now = 0;
    let mut waits = Vec::new();
    pod.next(at(now));
    for _ in 0..8 {
        pod.on_exit(0, 1, at(now));
        let wake = pod.wake_at().unwrap();
        waits.push(wake.duration_since(at(now)).as_secs());
        now += waits.last().unwrap();
        assert_eq!(pod.next(at(now)), [Step::Start(0)]);
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(pod.slots()[0].restarts, 8);
    pod.on_exit(0, 1, at(now + 600));
    assert_eq!(pod.wake_at(), Some(at(now + 600)));
}

#[test]
fn an_init_container_that_fails_ends_a_pod_that_never_restarts() {
    let mut pod = Lifecycle::new(&spec("Never", &[("proxy", true), ("a", false)], &["app"]));
    assert_eq!(pod.next(at(0)), [Step::Start(0)]);
    assert_eq!(pod.next(at(0)), [Step::Start(1)]);
    pod.on_exit(1, 3, at(1));
    assert_eq!(pod.next(at(1)), [Step::Stop(0)]);
    pod.on_exit(0, 0, at(1));
    assert_eq!((pod.next(at(1)), pod.phase()), (vec![], Phase::Failed));
}

#[test]
fn stopping_ends_the_apps_before_the_sidecars_and_those_in_reverse() {
    let mut pod = Lifecycle::new(&spec("Always", &[("s1", true), ("s2", true)], &["app"]));
    for _ in 0..3 {
        pod.next(at(0));
    }
    assert!(pod.is_ready());
    pod.stop();
    assert_eq!(pod.next(at(1)), [Step::Stop(2)]);
    pod.on_exit(2, 143, at(1));
    assert_eq!(pod.next(at(1)), [Step::Stop(1)]);
    pod.on_exit(1, 0, at(1));
    assert_eq!(pod.next(at(1)), [Step::Stop(0)]);
    assert!(!pod.is_over());
    pod.on_exit(0, 0, at(1));
    assert!(pod.is_over());
}

proptest! {
    /// Whatever happens: nothing starts that runs, nothing stops that does not, apps start after init, and a pod that
    /// is told to stop is over once all that ran has ended.
    #[test]
    fn random_lives_keep_the_rules(
        policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        init in prop::collection::vec(any::<bool>(), 0..4),
        apps in 1..3_usize,
        events in prop::collection::vec((0..7_usize, 0..4_u8, 0..2_i32), 0..60),
    ) {
        let names: Vec<(&str, bool)> = init.iter().map(|s| ("i", *s)).collect();
        let mut pod = Lifecycle::new(&spec(policy, &names, &vec!["a"; apps]));
        let mut running = vec![false; init.len() + apps];
        let mut now = 0;
        let step_all = |pod: &mut Lifecycle, running: &mut Vec<bool>, now: i64| -> Result<(), TestCaseError> {
            loop {
                let steps = pod.next(at(now));
                if steps.is_empty() {
                    return Ok(());
                }
                for step in steps {
                    match step {
                        Step::Start(index) => {
                            prop_assert!(!running[index]);
                            let before = &pod.slots()[..index.min(init.len())];
                            let is_first_start = pod.slots()[index].restarts == 0;
                            let earlier_init_done = before.iter().all(|s| {
                                s.role == Role::Sidecar || s.state == State::Ended { code: 0 }
                            });
                            prop_assert!(!is_first_start || earlier_init_done);
                            running[index] = true;
                        }
                        Step::Stop(index) => prop_assert!(running[index]),
                    }
                }
            }
        };
        step_all(&mut pod, &mut running, now)?;
        for (index, passed, code) in events {
            now += i64::from(passed) * 100;
            if index < running.len() && running[index] {
                running[index] = false;
                pod.on_exit(index, code, at(now));
            }
            step_all(&mut pod, &mut running, now)?;
        }
        pod.stop();
        while let Some(index) = running.iter().position(|r| *r) {
            step_all(&mut pod, &mut running, now)?;
            running[index] = false;
            pod.on_exit(index, 143, at(now));
        }
        step_all(&mut pod, &mut running, now)?;
        prop_assert!(pod.is_over());
        prop_assert_eq!(pod.wake_at(), None);
    }
}
