//! Laws of resolve, over random Worlds full of wrong values.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use osm_api::{Change, Object, World};
use osm_model::{Access, Admitted, Mesh};
use osm_resolve::{ResolveOptions, resolve};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("every value here has the type of its field")
}

pub(crate) fn world(objects: &[Object]) -> World {
    let mut world = World::default();
    for object in objects {
        world.apply(Change::Apply(Box::new(object.clone()), None));
    }
    world
}

pub(crate) fn mesh(objects: &[Object]) -> Mesh {
    resolve(&world(objects), &ResolveOptions::default()).0
}

pub(crate) fn namespace(name: &str, label: &str) -> Object {
    let metadata = json!({"name": name, "labels": {(label): "osm"}});
    Object::Namespace(read(json!({"metadata": metadata})))
}

pub(crate) fn mesh_config(is_permissive: bool) -> Object {
    let spec = json!({"traffic": {"enablePermissiveTrafficPolicyMode": is_permissive}});
    let metadata = json!({"name": "osm-mesh-config", "namespace": "osm-system"});
    Object::MeshConfig(read(json!({"metadata": metadata, "spec": spec})))
}

fn port() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 80i64..84, 1 => Just(0), 1 => Just(-1), 1 => Just(65536), 1 => Just(15001), 1 => Just(8080)]
}

fn target() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        port().prop_map(Value::from),
        prop::sample::select(vec!["web", "", "gone"]).prop_map(Value::from)
    ]
}

fn labels() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"app": "web"})),
        Just(json!({"app": "web", "color": "blue"})),
        Just(json!({"app": "db"})),
    ]
}

fn service_port() -> impl Strategy<Value = Value> {
    let protocol = prop::sample::select(vec![Value::Null, json!("TCP"), json!("UDP"), json!("x")]);
    let app_protocol = prop::sample::select(vec![Value::Null, json!("http"), json!("TCP"), json!("https"), json!("")]);
    let name = prop::sample::select(vec![Value::Null, json!("web"), json!("tcp-db")]);
    (port(), target(), protocol, app_protocol, name).prop_map(|(port, target, protocol, app_protocol, name)| {
        json!({"port": port, "targetPort": target, "protocol": protocol, "appProtocol": app_protocol, "name": name})
    })
}

/// Addresses hold the namespace's number, so that two namespaces never claim the same one.
fn address(namespace: u8) -> impl Strategy<Value = Value> {
    let written = (1u8..5).prop_map(move |host| format!("10.96.{namespace}.{host}"));
    prop_oneof![
        6 => written.prop_map(Value::from),
        1 => Just(json!("None")),
        1 => Just(json!("")),
        1 => Just(json!("here")),
        1 => Just(Value::Null)
    ]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn service(place: &'static str, number: u8) -> impl Strategy<Value = Object> {
    let ports = prop::collection::vec(service_port(), 0..4);
    let kind = prop::sample::select(vec![Value::Null, json!("ClusterIP"), json!("ExternalName")]);
    (name(), labels(), address(number), ports, kind).prop_map(move |(name, selector, address, ports, kind)| {
        let spec = json!({"selector": selector, "clusterIP": address, "ports": ports, "type": kind});
        let metadata = json!({"name": name, "namespace": place});
        Object::Service(read(json!({"metadata": metadata, "spec": spec})))
    })
}

fn pod(place: &'static str) -> impl Strategy<Value = Object> {
    (name(), labels(), any::<bool>(), port()).prop_map(move |(name, labels, is_meshed, port)| {
        let annotations = if is_meshed { json!({"openservicemesh.io/injected": "init: asked for"}) } else { json!({}) };
        let container = json!({"name": "app", "ports": [{"name": "web", "containerPort": port}]});
        let metadata = json!({"name": name, "namespace": place, "labels": labels, "annotations": annotations});
        Object::Pod(read(
            json!({"metadata": metadata, "spec": {"containers": [container], "serviceAccountName": name}}),
        ))
    })
}

fn slice(place: &'static str) -> impl Strategy<Value = Object> {
    let endpoint =
        (name(), prop::sample::select(vec!["10.244.0.1", "10.244.0.2", "::1", "there"]), any::<Option<bool>>());
    let endpoints = prop::collection::vec(endpoint, 0..4);
    let family = prop::sample::select(vec!["IPv4", "IPv6", "FQDN"]);
    (name(), family, endpoints, port(), prop::sample::select(vec![Value::Null, json!("web")])).prop_map(
        move |(name, family, endpoints, port, port_name)| {
            let endpoint = |(pod, address, ready): (&str, &str, Option<bool>)| {
                json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}})
            };
            let endpoints: Vec<Value> = endpoints.into_iter().map(endpoint).collect();
            let labels = json!({"kubernetes.io/service-name": name});
            Object::EndpointSlice(
                read(json!({
                    "metadata": {"name": name, "namespace": place, "labels": labels},
                    "addressType": family, "endpoints": endpoints, "ports": [{"name": port_name, "port": port}],
                })),
            )
        },
    )
}

/// Objects of one namespace, the namespace itself left out.
pub(crate) fn objects(place: &'static str, number: u8) -> impl Strategy<Value = Vec<Object>> {
    let object = prop_oneof![
        service(place, number).boxed(),
        pod(place).boxed(),
        slice(place).boxed(),
        service(place, number).boxed()
    ];
    prop::collection::vec(object, 0..16)
}

proptest! {
    #[test]
    fn the_order_of_objects_does_not_matter_and_nothing_impossible_comes_out(objects in objects("shop", 1)) {
        let mut all = vec![namespace("shop", "openservicemesh.io/monitored-by")];
        // One object of each key: which of two counts is the World's business.
        let mut seen = BTreeSet::new();
        all.extend(objects.into_iter().filter(|object| seen.insert(object.key())));
        let forwards = resolve(&world(&all), &ResolveOptions::default());
        all.reverse();
        prop_assert_eq!(&forwards, &resolve(&world(&all), &ResolveOptions::default()));

        let mesh = forwards.0;
        let mut claims = BTreeSet::new();
        for service in mesh.services.values() {
            for (number, port) in &service.ports {
                prop_assert!(*number != 0);
                prop_assert!(service.addresses.iter().all(|address| claims.insert((*address, *number))));
                prop_assert!(port.endpoints.iter().all(|endpoint| endpoint.address.port() != 0));
            }
        }
        for class in mesh.classes() {
            let ports: Vec<u16> = class.inbound.iter().map(|inbound| inbound.port).collect();
            prop_assert_eq!(ports.len(), ports.iter().collect::<BTreeSet<_>>().len(), "one protocol for each port");
            prop_assert!(ports.iter().all(|port| *port != 0 && *port != 15001));
        }
    }

    #[test]
    fn another_namespace_leaves_this_one_as_it_is(ours in objects("shop", 1), others in objects("bank", 2)) {
        let mut all = vec![namespace("shop", "openservicemesh.io/monitored-by")];
        all.extend(ours);
        let alone = mesh(&all);
        all.push(namespace("bank", "openservicemesh.io/monitored-by"));
        all.extend(others);
        let mut together = mesh(&all);
        together.services.retain(|name, _| name.namespace == "shop");
        together.proxies.retain(|name, _| name.namespace == "shop");
        let together = Mesh::new(together.settings, together.services, together.proxies, together.grants);
        prop_assert_eq!(together, alone);
    }

    #[test]
    fn what_is_not_of_the_mesh_changes_nothing(ours in objects("shop", 1), others in objects("bank", 1)) {
        let mut all = vec![namespace("shop", "openservicemesh.io/monitored-by")];
        all.extend(ours);
        let alone = mesh(&all);
        all.push(namespace("bank", "some-other-label"));
        all.extend(others);
        prop_assert_eq!(mesh(&all), alone);
    }

    #[test]
    fn without_permissive_mode_nobody_may_reach_anybody(ours in objects("shop", 1)) {
        let mut all = vec![namespace("shop", "openservicemesh.io/monitored-by"), mesh_config(false)];
        all.extend(ours);
        let mesh = mesh(&all);
        prop_assert_eq!(mesh.settings.access, Access::Granted);
        for class in mesh.classes() {
            let view = mesh.view(class);
            prop_assert_eq!(view.outbound, Vec::new());
            prop_assert_eq!(view.admitted, Admitted::Granted(Default::default()));
        }
    }
}

/// Bad input of any size is answered: 10,000 objects, among them services that select all pods, within the deadline
/// of a test on a busy machine. It takes a small part of that when selection does not look at every pod for every
/// service.
#[test]
fn ten_thousand_objects_are_resolved_in_seconds() {
    let mut all = vec![namespace("shop", "openservicemesh.io/monitored-by")];
    let place = |name: String| json!({"name": name, "namespace": "shop"});
    for index in 0..3333 {
        let mut pod = place(format!("p{index}"));
        pod["labels"] = json!({"app": format!("a{index}"), "all": "yes"});
        pod["annotations"] = json!({"openservicemesh.io/injected": "init: asked for"});
        all.push(Object::Pod(read(json!({"metadata": pod, "spec": {"containers": []}}))));
        let selector = json!({"app": format!("a{index}"), "all": "yes"});
        let address = format!("10.96.{}.{}", index / 250, index % 250);
        let spec = json!({"clusterIP": address, "selector": selector, "ports": [{"port": 80}]});
        all.push(Object::Service(read(json!({"metadata": place(format!("s{index}")), "spec": spec}))));
        let mut slice = place(format!("e{index}"));
        slice["labels"] = json!({"kubernetes.io/service-name": format!("s{index}")});
        let endpoint = json!({"addresses": ["10.244.0.1"], "targetRef": {"kind": "Pod", "name": format!("p{index}")}});
        let ports = json!([{"port": 80}]);
        all.push(Object::EndpointSlice(read(
            json!({"metadata": slice, "addressType": "IPv4", "endpoints": [endpoint], "ports": ports}),
        )));
    }
    let world = world(&all);
    let start = Instant::now();
    let (mesh, problems) = resolve(&world, &ResolveOptions::default());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!((mesh.services.len(), mesh.proxies.len(), problems.len()), (3333, 3333, 0));
}
