use proptest::prelude::*;

use super::*;

fn service(namespace: &str, name: &str, port: i32) -> Object {
    Object::Service(k8s::Service {
        metadata: k8s::ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() },
        spec: Some(k8s::ServiceSpec {
            ports: Some(vec![k8s::ServicePort { port, ..Default::default() }]),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = ("[ab]", "[xyz]", 1..4i32, any::<bool>()).prop_map(|(namespace, name, port, keep)| {
        let object = service(&namespace, &name, port);
        if keep { Change::Apply(Box::new(object), None) } else { Change::Delete(object.key()) }
    });
    proptest::collection::vec(one, 0..24)
}

fn key_of(change: &Change) -> ObjectKey {
    match change {
        Change::Apply(object, _) => object.key(),
        Change::Delete(key) => key.clone(),
    }
}

proptest! {
    #[test]
    fn the_order_of_different_objects_does_not_matter(changes in changes()) {
        let mut by_time = World::default();
        changes.iter().for_each(|c| { by_time.apply(c.clone()); });
        let mut sorted = changes;
        sorted.sort_by_key(key_of);
        let mut by_key = World::default();
        sorted.into_iter().for_each(|c| { by_key.apply(c); });
        prop_assert_eq!(by_time, by_key);
    }

    #[test]
    fn applying_twice_is_once(changes in changes()) {
        let mut world = World::default();
        for change in changes {
            world.apply(change.clone());
            prop_assert_eq!(world.apply(change), Changed::Nothing);
        }
    }
}

#[test]
fn status_and_bookkeeping_change_nothing() {
    let mut world = World::default();
    let pod = |phase: &str, version: &str| {
        Object::Pod(k8s::Pod {
            metadata: k8s::ObjectMeta {
                namespace: Some("shop".into()),
                name: Some("web".into()),
                resource_version: Some(version.into()),
                ..Default::default()
            },
            status: Some(k8s::PodStatus { phase: Some(phase.into()), ..Default::default() }),
            ..Default::default()
        })
    };
    assert_eq!(world.apply(Change::Apply(Box::new(pod("Pending", "1")), None)), Changed::Something);
    assert_eq!(world.apply(Change::Apply(Box::new(pod("Running", "2")), None)), Changed::Nothing);
}

fn pod_with(conditions: &[(&str, &str)], exited: Option<i32>) -> Change {
    let condition = |(type_, status): &(&str, &str)| k8s::PodCondition {
        type_: (*type_).into(),
        status: (*status).into(),
        message: Some("for people".into()),
        ..Default::default()
    };
    let ended = |exit_code| k8s::ContainerStatus {
        name: "work".into(),
        restart_count: 3,
        state: Some(k8s::ContainerState {
            terminated: Some(k8s::ContainerStateTerminated { exit_code, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let pod = k8s::Pod {
        metadata: k8s::ObjectMeta { namespace: Some("shop".into()), name: Some("web".into()), ..Default::default() },
        status: Some(k8s::PodStatus {
            conditions: Some(conditions.iter().map(condition).collect()),
            container_statuses: exited.map(|code| vec![ended(code)]),
            ..Default::default()
        }),
        ..Default::default()
    };
    Change::Apply(Box::new(Object::Pod(pod)), None)
}

#[test]
fn of_a_pods_status_counts_what_decisions_rest_on() {
    let mut world = World::default();
    assert_eq!(world.apply(pod_with(&[], None)), Changed::Something);
    assert_eq!(world.apply(pod_with(&[("Ready", "True"), ("PodScheduled", "True")], None)), Changed::Nothing);
    assert_eq!(world.apply(pod_with(&[("ContainersReady", "True")], None)), Changed::Something);
    assert_eq!(world.apply(pod_with(&[("ContainersReady", "False")], None)), Changed::Something);
    assert_eq!(world.apply(pod_with(&[("ContainersReady", "False")], Some(0))), Changed::Something);
    assert_eq!(world.apply(pod_with(&[("ContainersReady", "False")], Some(0))), Changed::Nothing);
}

#[test]
fn what_the_controller_wrote_itself_is_kept_and_no_news() {
    let mut world = World::default();
    world.apply(pod_with(&[("ContainersReady", "True")], None));
    let ours = [("ContainersReady", "True"), ("openservicemesh.io/PeersReady", "True")];
    assert_eq!(world.apply(pod_with(&ours, None)), Changed::Nothing);
    let kept = world.pods.values().next().and_then(|pod| pod.status.clone()).and_then(|status| status.conditions);
    assert_eq!(kept.map(|kept| kept.len()), Some(2));
    assert_eq!(world.apply(pod_with(&[], None)), Changed::Something);
}
