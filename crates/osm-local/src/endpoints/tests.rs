use osm_api::ManifestSet;
use serde_json::json;

use super::*;
use crate::addresses::IpFamilies;

fn world(text: &str) -> World {
    let mut world = World::default();
    for change in ManifestSet::default().put("test.yaml", text).changes {
        world.apply(change);
    }
    world
}

fn pod(name: &str, label: &str, http_port: i32) -> k8s::Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": label}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": http_port}]}]}}))
    .unwrap()
}

fn backend(pod: &k8s::Pod, last: u8, is_ready: bool, is_terminating: bool) -> Backend<'_> {
    Backend { pod, ips: PodIps::of([10, 244, 0, last].into(), IpFamilies::DualStack), is_ready, is_terminating }
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http, appProtocol: http}]}
";

#[test]
fn each_selected_pod_is_an_endpoint_that_says_whether_it_may_be_sent_traffic() {
    let pods = [pod("a", "web", 8080), pod("b", "web", 8080), pod("c", "web", 8080), pod("d", "other", 8080)];
    let backends = [
        backend(&pods[0], 2, true, false),
        backend(&pods[1], 3, false, false),
        backend(&pods[2], 4, true, true),
        backend(&pods[3], 5, true, false),
    ];
    let slices = slices(&world(SERVICE), &backends);
    let slice = &slices[&NamespacedName::new("default", "web-local-0")];
    assert_eq!(slices.len(), 1);
    let endpoints = slice.endpoints.clone().unwrap();
    let conditions = endpoints.iter().map(|e| {
        let conditions = e.conditions.clone().unwrap();
        (e.addresses[0].as_str(), conditions.ready, conditions.serving, conditions.terminating)
    });
    let (yes, no) = (Some(true), Some(false));
    let expected = [("10.244.0.2", yes, yes, no), ("10.244.0.3", no, no, no), ("10.244.0.4", no, yes, yes)];
    assert_eq!(conditions.collect::<Vec<_>>(), expected);
    assert_eq!(endpoints[0].target_ref.as_ref().unwrap().uid.as_deref(), Some("uid-a"));
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!((port.port, port.name.as_deref(), port.app_protocol.as_deref()), (Some(8080), Some(""), Some("http")));
}

#[test]
fn pods_that_name_a_port_differently_are_in_slices_of_their_own() {
    let pods = [pod("a", "web", 8080), pod("b", "web", 9090)];
    let backends = [backend(&pods[0], 2, true, false), backend(&pods[1], 3, true, false)];
    let world = world(SERVICE);
    let slices = slices(&world, &backends);
    assert_eq!(slices.len(), 2);
    let name = NamespacedName::new("default", "web");
    let port = &world.services[&name].spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
    let found = ready_addresses(&by_service(&slices)[&name], port);
    assert_eq!(found, [SocketAddr::from(([10, 244, 0, 2], 8080)), SocketAddr::from(([10, 244, 0, 3], 9090))]);
}

#[test]
fn a_service_has_slices_of_the_families_that_it_asks_for() {
    let pods = [pod("a", "web", 8080)];
    let addresses = |families: &str| -> Vec<String> {
        let text = SERVICE.replace("selector:", &format!("ipFamilies: [{families}], selector:"));
        let slices = slices(&world(&text), &[backend(&pods[0], 2, true, false)]);
        let of = |(name, slice): (&NamespacedName, &k8s::EndpointSlice)| {
            let address = slice.endpoints.as_ref().unwrap()[0].addresses[0].clone();
            format!("{} {} {address}", name.name, slice.address_type)
        };
        slices.iter().map(of).collect()
    };
    let (v4, v6) = ("web-local-0 IPv4 10.244.0.2", "web-local-v6-0 IPv6 fd00:10:244::af4:2");
    assert_eq!(addresses("IPv4"), [v4]);
    assert_eq!(addresses("IPv6"), [v6]);
    assert_eq!(addresses("IPv4, IPv6"), [v4, v6]);
}

#[test]
fn a_service_without_pods_has_a_slice_without_endpoints_and_one_without_selector_has_none() {
    let empty = slices(&world(SERVICE), &[]);
    assert_eq!(empty.values().map(|s| s.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [0]);
    assert_eq!(slices(&world(&SERVICE.replace("selector: {app: web}, ", "")), &[]).len(), 0);
}

#[test]
fn slices_that_were_written_down_count_too() {
    let given = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8000}]
endpoints: [{addresses: [10.1.2.3]}]
";
    let world = world(&format!("{}---{given}", SERVICE.replace("selector: {app: web}, ", "")));
    let name = NamespacedName::new("default", "web");
    let port = &world.services[&name].spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
    let slices = slices(&world, &[]);
    let found = ready_addresses(&by_service(&slices)[&name], port);
    assert_eq!(found, [SocketAddr::from(([10, 1, 2, 3], 8000))]);
}
