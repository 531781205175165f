//! Laws of injection, for pods of every kind.

use std::collections::BTreeMap;

use osm_api::{
    INIT_CONTAINER, MONITORED_BY, SIDECAR_CONTAINER, SIDECAR_INJECTION, STARTUP, UNMESHED_INIT_CONTAINERS, k8s,
};
use osm_inject::{Injection, Shape, inject};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::policy;

proptest! {
    #[test]
    fn injecting_twice_is_injecting_once(pod in pods(), seed: u64) {
        let (once, shape) = injected(&pod, seed);
        let (twice, shape_again) = injected(&once, seed.wrapping_add(1));
        prop_assert_eq!(&twice, &once);
        prop_assert_eq!(shape_again, shape);
    }

    #[test]
    fn containers_of_the_user_survive(pod in pods(), seed: u64) {
        let (after, _) = injected(&pod, seed);
        let (before, after) = (pod.spec.unwrap(), after.spec.unwrap());
        prop_assert_eq!(of_user(&after.containers), of_user(&before.containers));
        let inits = |spec: &k8s::PodSpec| of_user(&spec.init_containers.clone().unwrap_or_default());
        prop_assert_eq!(inits(&after), inits(&before));
        prop_assert_eq!(after.restart_policy, before.restart_policy);
    }

    #[test]
    fn nothing_starts_before_redirection_is_in_place(pod in pods(), seed: u64) {
        let (pod, shape) = injected(&pod, seed);
        let spec = pod.spec.unwrap();
        let inits = spec.init_containers.unwrap_or_default();
        prop_assert_eq!(places(&inits, &spec.containers), ours_first(shape));
        let all = [inits, spec.containers].concat();
        for name in [INIT_CONTAINER, SIDECAR_CONTAINER] {
            let expected = usize::from(name == SIDECAR_CONTAINER || shape != Shape::Merged);
            prop_assert_eq!(all.iter().filter(|found| found.name == name).count(), expected);
        }
        let sidecar = all.iter().find(|found| found.name == SIDECAR_CONTAINER).unwrap();
        // Only the shape that says so gives the sidecar rights, and there the next container waits for the rules.
        let added = sidecar.security_context.as_ref().and_then(|it| it.capabilities.as_ref()).and_then(|it| it.add.clone());
        prop_assert_eq!(added.is_some(), shape == Shape::Merged);
        prop_assert_eq!(sidecar.lifecycle.is_some(), shape == Shape::Merged);
    }

    #[test]
    fn what_others_put_first_is_put_behind(pod in pods(), seed: u64) {
        let (right, shape) = injected(&pod, seed);
        let mut moved = right.clone();
        let spec = moved.spec.as_mut().unwrap();
        let inits = spec.init_containers.get_or_insert_default();
        inits.insert(0, k8s::Container { name: "theirs".to_owned(), ..k8s::Container::default() });
        for container in inits.iter_mut() {
            container.restart_policy = container.restart_policy.take().filter(|_| container.name != SIDECAR_CONTAINER);
        }
        spec.containers.rotate_left(1);

        let (mended, shape_again) = injected(&moved, seed);

        prop_assert_eq!(shape_again, shape);
        let spec = mended.spec.unwrap();
        let inits = spec.init_containers.unwrap();
        prop_assert_eq!(places(&inits, &spec.containers), ours_first(shape));
        for sidecar in inits.iter().filter(|container| container.name == SIDECAR_CONTAINER) {
            prop_assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
        }
        prop_assert!(inits.iter().any(|container| container.name == "theirs"));
    }

    #[test]
    fn only_what_is_named_runs_before_redirection(mut pod in pods(), seed: u64, at: prop::sample::Index) {
        let inits = pod.spec.as_ref().unwrap().init_containers.clone().unwrap_or_default();
        prop_assume!(!inits.is_empty());
        let named = at.get(&inits).name.clone();
        pod.metadata.annotations.get_or_insert_default().insert(UNMESHED_INIT_CONTAINERS.to_owned(), named.clone());
        let (once, shape) = injected(&pod, seed);
        let (twice, _) = injected(&once, seed.wrapping_add(1));
        prop_assert_eq!(&twice, &once);
        let spec = once.spec.unwrap();
        let inits = spec.init_containers.unwrap();
        prop_assert_eq!(&inits[0].name, &named);
        prop_assert_eq!(places(&inits[1..], &spec.containers), ours_first(shape));
    }

    #[test]
    fn whoever_has_the_proxys_user_id_is_refused(mut pod in pods(), in_init: bool, at: prop::sample::Index) {
        let spec = pod.spec.as_mut().unwrap();
        let inits = spec.init_containers.get_or_insert_default();
        let list = if in_init && !inits.is_empty() { inits } else { &mut spec.containers };
        at.get_mut(list.as_mut_slice()).security_context =
            Some(k8s::SecurityContext { run_as_user: Some(1500), ..k8s::SecurityContext::default() });
        let refused = inject(&pod, &namespace(), &policy(), &mut StdRng::seed_from_u64(1)).unwrap_err();
        prop_assert!(refused.iter().all(|problem| problem.field.ends_with("securityContext.runAsUser")), "{:?}", refused);
    }
}

/// The names that stand where ours must be: first init container, second one, first container; as far as the shape says.
fn places(inits: &[k8s::Container], apps: &[k8s::Container]) -> (Option<String>, Option<String>, Option<String>) {
    let ours = |container: Option<&k8s::Container>| {
        let name = container?.name.clone();
        [INIT_CONTAINER, SIDECAR_CONTAINER].contains(&name.as_str()).then_some(name)
    };
    (ours(inits.first()), ours(inits.get(1)), ours(apps.first()))
}

fn ours_first(shape: Shape) -> (Option<String>, Option<String>, Option<String>) {
    let (init, sidecar) = (Some(INIT_CONTAINER.to_owned()), Some(SIDECAR_CONTAINER.to_owned()));
    match shape {
        Shape::Init => (init, None, sidecar),
        Shape::Native => (init, sidecar, None),
        Shape::Merged => (sidecar, None, None),
    }
}

fn injected(pod: &k8s::Pod, seed: u64) -> (k8s::Pod, Shape) {
    match inject(pod, &namespace(), &policy(), &mut StdRng::seed_from_u64(seed)) {
        Ok(Injection::Injected { pod, shape, .. }) => (*pod, shape),
        other => panic!("not injected: {other:?}"),
    }
}

/// The user's containers, without their probes.
fn of_user(containers: &[k8s::Container]) -> Vec<k8s::Container> {
    let ours = [INIT_CONTAINER, SIDECAR_CONTAINER];
    let users = containers.iter().filter(|container| !ours.contains(&container.name.as_str())).cloned();
    users.map(|container| k8s::Container { liveness_probe: None, ..container }).collect()
}

fn namespace() -> k8s::Namespace {
    let mut namespace = k8s::Namespace::default();
    namespace.metadata.name = Some("shop".to_owned());
    namespace.metadata.labels = Some(one(MONITORED_BY, "osm"));
    namespace.metadata.annotations = Some(one(SIDECAR_INJECTION, "enabled"));
    namespace
}

fn one(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn pods() -> impl Strategy<Value = k8s::Pod> {
    let restarts = prop::sample::select(vec![None, Some("Always"), Some("Never"), Some("OnFailure")]);
    let shapes = prop::sample::select(vec![None, Some("init"), Some("native"), Some("merged")]);
    let containers = (option::of(vec(container("init"), 0..3)), vec(container("app"), 1..4));
    let volumes = option::of(vec("[a-z]{1,5}", 0..3));
    (restarts, shapes, containers, volumes).prop_map(|(restart, shape, (inits, apps), volumes)| {
        let volume = |name: String| k8s::Volume { name, ..k8s::Volume::default() };
        let mut pod = k8s::Pod::default();
        pod.metadata.name = Some("client".to_owned());
        pod.metadata.annotations = shape.map(|shape| one(STARTUP, shape));
        pod.spec = Some(k8s::PodSpec {
            restart_policy: restart.map(str::to_owned),
            init_containers: inits.map(numbered),
            containers: numbered(apps),
            volumes: volumes.map(|names| names.into_iter().map(volume).collect()),
            ..k8s::PodSpec::default()
        });
        pod
    })
}

fn container(kind: &'static str) -> impl Strategy<Value = k8s::Container> {
    let probe = option::of(0..2000i32);
    (option::of("[a-z]{1,8}"), vec("[a-z]{0,8}", 0..3), option::of(1i64..1500), probe).prop_map(
        move |(image, args, uid, port)| {
            let security_context =
                uid.map(|uid| k8s::SecurityContext { run_as_user: Some(uid), ..k8s::SecurityContext::default() });
            let name = kind.to_owned();
            let socket = |port| k8s::TCPSocketAction { port: k8s::IntOrString::Int(port), host: None };
            let liveness_probe =
                port.map(|port| k8s::Probe { tcp_socket: Some(socket(port)), ..k8s::Probe::default() });
            k8s::Container {
                name,
                image,
                args: Some(args),
                security_context,
                liveness_probe,
                ..k8s::Container::default()
            }
        },
    )
}

fn numbered(mut containers: Vec<k8s::Container>) -> Vec<k8s::Container> {
    for (index, container) in containers.iter_mut().enumerate() {
        container.name = format!("{}-{index}", container.name);
    }
    containers
}
