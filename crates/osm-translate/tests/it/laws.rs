//! Laws of translate, over random views.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use osm_model::{
    Access, Endpoint, Identity, InboundPort, Protocol, ProxyClass, ProxyView, Service, ServiceName, ServicePort,
};
use osm_translate::{Translator, resource_to_json, to_json, translate};
use osm_xds::{ResourceType, Resources};
use proptest::prelude::*;
use serde_json::Value;

use crate::view::settings;

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Http, Protocol::Grpc, Protocol::Tcp, Protocol::TcpServerFirst])
}

fn identity() -> impl Strategy<Value = Identity> {
    (prop::sample::select(vec!["shop", "bank"]), prop::sample::select(vec!["a", "b"])).prop_map(
        |(namespace, service_account)| Identity {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        },
    )
}

fn port() -> impl Strategy<Value = ServicePort> {
    let endpoint = (1u8..4, 8080u16..8082)
        .prop_map(|(host, port)| Endpoint { address: SocketAddr::from((Ipv4Addr::new(10, 244, 0, host), port)) });
    (protocol(), prop::collection::btree_set(endpoint, 0..3))
        .prop_map(|(protocol, endpoints)| ServicePort { protocol, endpoints })
}

/// Addresses may be claimed twice and names may mean two services: nothing forbids it here.
fn service() -> impl Strategy<Value = Service> {
    let name = (prop::sample::select(vec!["shop", "bank"]), prop::sample::select(vec!["a", "b", "a.shop", "c", "d"]));
    let address = (1u8..4).prop_map(|host| IpAddr::V4(Ipv4Addr::new(10, 96, 0, host)));
    (
        name,
        prop::collection::btree_set(address, 0..2),
        prop::collection::btree_map(80u16..83, port(), 0..3),
        prop::collection::btree_set(identity(), 0..2),
    )
        .prop_map(|((namespace, name), addresses, ports, identities)| Service {
            name: ServiceName { namespace: namespace.to_owned(), name: name.to_owned() },
            addresses: addresses.into_iter().collect(),
            ports,
            identities,
        })
}

fn view() -> impl Strategy<Value = ProxyView> {
    let services = prop::collection::vec(service(), 0..6);
    let inbound = prop::collection::btree_map(8080u16..8083, protocol(), 0..3);
    (any::<bool>(), any::<bool>(), identity(), inbound, services).prop_map(
        |(is_permissive, egress, identity, inbound, services)| {
            let by_name: BTreeMap<_, _> = services.into_iter().map(|service| (service.name.clone(), service)).collect();
            let inbound = inbound.into_iter().map(|(port, protocol)| InboundPort { port, protocol }).collect();
            let access = if is_permissive { Access::Permissive } else { Access::Granted };
            ProxyView {
                settings: osm_model::Settings { access, egress, ..settings() },
                class: ProxyClass { identity, inbound },
                outbound: by_name.into_values().map(Arc::new).collect(),
            }
        },
    )
}

/// The values of a field wherever it is.
fn collect(value: &Value, field: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(field).cloned());
            map.values().for_each(|value| collect(value, field, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn strings(value: &Value, field: &str) -> BTreeSet<String> {
    let mut found = Vec::new();
    collect(value, field, &mut found);
    found.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn names(resources: &Resources, ty: ResourceType) -> BTreeSet<String> {
    resources.of(ty).keys().cloned().collect()
}

/// The strings of a field must differ within each list.
fn all_differ(items: &Value, field: &str) -> bool {
    let mut seen = BTreeSet::new();
    items.as_array().into_iter().flatten().all(|item| seen.insert(item[field].to_string()))
}

proptest! {
    #[test]
    fn every_name_that_is_used_exists_and_none_is_given_twice(view in view()) {
        let resources = translate(&view);
        let json = to_json(&resources).expect("our own resources are JSON");
        let clusters = names(&resources, ResourceType::Cluster);
        let mut used = strings(&json["listener"], "cluster");
        used.extend(strings(&json["route"], "cluster"));
        prop_assert!(used.is_subset(&clusters), "{used:?} {clusters:?}");
        prop_assert_eq!(strings(&json, "route_config_name"), names(&resources, ResourceType::Route));
        let fetched: BTreeSet<String> = clusters
            .iter()
            .filter(|name| json["cluster"][name.as_str()]["type"] == "EDS")
            .cloned()
            .collect();
        prop_assert_eq!(fetched, names(&resources, ResourceType::Endpoint));
        for listener in json["listener"].as_object().into_iter().flat_map(|map| map.values()) {
            prop_assert!(all_differ(&listener["filter_chains"], "name"));
            prop_assert!(all_differ(&listener["filter_chains"], "filter_chain_match"));
        }
        for route in json["route"].as_object().into_iter().flat_map(|map| map.values()) {
            prop_assert!(all_differ(&route["virtual_hosts"], "name"));
            let mut domains = Vec::new();
            collect(route, "domains", &mut domains);
            let domains: Vec<_> = domains.iter().filter_map(Value::as_array).flatten().collect();
            let different: BTreeSet<String> = domains.iter().map(|domain| domain.to_string()).collect();
            prop_assert_eq!(domains.len(), different.len(), "Envoy refuses one domain in two hosts");
        }
    }

    #[test]
    fn a_translator_that_has_seen_much_says_what_one_that_has_seen_nothing_says(
        views in prop::collection::vec(view(), 1..6)
    ) {
        let mut translator = Translator::default();
        for view in views.iter().chain(&views) {
            let remembered = translator.translate(view);
            let fresh = translate(view);
            prop_assert_eq!(&*remembered, &fresh);
            for (ty, resource) in fresh.iter() {
                let other = remembered.get(ty, &resource.name).expect("the same names");
                prop_assert_eq!(&other.body, &resource.body);
            }
        }
    }

    #[test]
    fn nobody_gets_in_without_a_certificate_or_without_a_grant(view in view()) {
        let resources = translate(&view);
        let inbound = resources.get(ResourceType::Listener, "inbound-listener").expect("it always exists");
        let json = resource_to_json(ResourceType::Listener, inbound).expect("our own resource is JSON");
        let chains = json["filter_chains"].as_array().cloned().unwrap_or_default();
        prop_assert_eq!(chains.len(), view.class.inbound.len());
        for chain in chains {
            prop_assert_eq!(&chain["transport_socket"]["typed_config"]["require_client_certificate"], &Value::Bool(true));
            let first = &chain["filters"][0];
            let is_closed = first["name"] == "envoy.filters.network.rbac"
                && first["typed_config"]["rules"].get("policies").is_none();
            prop_assert_eq!(is_closed, view.settings.access == Access::Granted);
            let is_local = strings(&chain, "cluster").iter().any(|cluster| cluster.starts_with("local|"));
            prop_assert!(!(is_closed && is_local), "the first words of a server would be heard");
        }
        for route in resources.of(ResourceType::Route).values().filter(|route| route.name.starts_with("rds-inbound")) {
            let json = resource_to_json(ResourceType::Route, route).expect("our own resource is JSON");
            let is_closed = json["virtual_hosts"][0]["routes"][0]["direct_response"]["status"] == 403;
            prop_assert_eq!(is_closed, view.settings.access == Access::Granted);
        }
        let everything = &json["default_filter_chain"]["filters"][0]["typed_config"]["cluster"];
        prop_assert_eq!(everything, "blackhole");
    }

    #[test]
    fn a_new_http_service_on_a_known_port_leaves_the_listeners_and_all_other_clusters_as_they_are(
        view in view(), added in service()
    ) {
        let ports = view.outbound.iter().flat_map(|service| &service.ports);
        let known: BTreeSet<u16> = ports.filter(|(_, port)| port.protocol.is_http()).map(|(number, _)| *number).collect();
        let mut added = added;
        added.name.name = "new".to_owned();
        added.ports.retain(|number, port| known.contains(number) && port.protocol.is_http());
        let before = translate(&view);
        let mut more = view.clone();
        more.outbound.push(Arc::new(added));
        let after = translate(&more);
        prop_assert_eq!(before.of(ResourceType::Listener), after.of(ResourceType::Listener));
        for ty in [ResourceType::Cluster, ResourceType::Endpoint] {
            for (name, resource) in before.of(ty) {
                prop_assert_eq!(Some(resource), after.get(ty, name));
            }
        }
        let routes: Vec<_> = after.of(ResourceType::Route).keys().collect();
        prop_assert_eq!(before.of(ResourceType::Route).keys().collect::<Vec<_>>(), routes);
    }
}
