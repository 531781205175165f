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
