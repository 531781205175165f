//! Laws of translate, over random views.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use osm_model::{
    Access, Admitted, Endpoint, Grant, GrantsTo, HttpMatch, Identity, InboundPort, Pattern, PolicyName, Protocol,
    ProxyClass, ProxyView, Service, ServiceName, ServicePort, TcpPorts,
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
    let endpoint = (1u8..4, 8080u16..8082, identity()).prop_map(|(host, port, identity)| {
        let address = SocketAddr::from((Ipv4Addr::new(10, 244, 0, host), port));
        Endpoint { address, identity }
    });
    let targets = prop::collection::btree_set(8080u16..8082, 0..3);
    (protocol(), targets, prop::collection::btree_set(endpoint, 0..3))
        .prop_map(|(protocol, targets, endpoints)| ServicePort { protocol, targets, endpoints })
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

fn requests() -> impl Strategy<Value = HttpMatch> {
    let header = (prop::sample::select(vec!["host", "x-a"]), prop::sample::select(vec!["1", ".*"]));
    (
        prop::option::of(prop::sample::select(vec!["/a", "/.*"])),
        prop::collection::btree_set(prop::sample::select(vec!["GET", "POST"]), 0..3),
        prop::collection::btree_set(header, 0..3),
    )
        .prop_map(|(path, methods, headers)| HttpMatch {
            path: path.map(|path| Pattern(path.to_owned())),
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), Pattern(value.to_owned()))).collect(),
        })
}

fn grants() -> impl Strategy<Value = GrantsTo> {
    let tcp = prop_oneof![
        1 => Just(TcpPorts::Any),
        3 => prop::collection::btree_set(8080u16..8083, 0..3).prop_map(TcpPorts::Only)
    ];
    let http = prop::collection::btree_set(requests(), 0..3);
    let grant = (prop::collection::btree_set(identity(), 1..3), http, tcp).prop_map(|(sources, http, tcp)| Grant {
        sources,
        http,
        tcp,
    });
    prop::collection::btree_map(prop::sample::select(vec!["one", "two", "three"]), grant, 0..4).prop_map(|grants| {
        let policy = |name: &str| PolicyName { namespace: "shop".to_owned(), name: name.to_owned() };
        grants.into_iter().map(|(name, grant)| (policy(name), grant)).collect()
    })
}

fn view() -> impl Strategy<Value = ProxyView> {
    let services = prop::collection::vec(service(), 0..6);
    let inbound = prop::collection::btree_map(8080u16..8083, protocol(), 0..3);
    let ports = prop::collection::btree_set(80u16..84, 0..3);
    let addresses = prop::collection::btree_set((1u8..9).prop_map(|last| IpAddr::from([10, 96, 1, last])), 0..4);
    let closed = prop::collection::btree_map(80u16..84, addresses, 0..3);
    (any::<bool>(), any::<bool>(), identity(), inbound, services, ports, closed, grants()).prop_map(
        |(is_permissive, egress, identity, inbound, services, mut http_ports, closed, grants)| {
            let by_name: BTreeMap<_, _> = services.into_iter().map(|service| (service.name.clone(), service)).collect();
            let inbound = inbound.into_iter().map(|(port, protocol)| InboundPort { port, protocol }).collect();
            let (access, admitted) = match is_permissive {
                true => (Access::Permissive, Admitted::Everybody),
                false => (Access::Granted, Admitted::Granted(Arc::new(grants))),
            };
            let ports = by_name.values().flat_map(|service| &service.ports);
            http_ports.extend(ports.filter(|(_, port)| port.protocol.is_http()).map(|(number, _)| *number));
            ProxyView {
                settings: osm_model::Settings { access, egress, ..settings() },
                class: ProxyClass { identity, inbound },
                outbound: by_name.into_values().map(Arc::new).collect(),
                http_ports,
                closed,
                admitted,
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
        let trust_domain = &view.settings.trust_domain;
        for (chain, inbound) in chains.iter().zip(&view.class.inbound) {
            let tls = &chain["transport_socket"]["typed_config"];
            prop_assert_eq!(&tls["require_client_certificate"], &Value::Bool(true));
            let validation = &tls["common_tls_context"]["combined_validation_context"]["default_validation_context"];
            let accepted = strings(validation, "exact");
            match &view.admitted {
                Admitted::Granted(grants) if !inbound.protocol.is_http() => {
                    let open = grants.values().filter(|grant| grant.tcp.contains(inbound.port));
                    let sources = open.flat_map(|grant| &grant.sources);
                    let mut names: BTreeSet<String> = sources.map(|source| source.dns_name(trust_domain)).collect();
                    if names.is_empty() {
                        names.insert("nobody.invalid".to_owned());
                    }
                    prop_assert_eq!(accepted, names);
                }
                Admitted::Granted(_) | Admitted::Everybody => prop_assert_eq!(accepted, BTreeSet::new()),
            }
        }
        for inbound in view.class.inbound.iter().filter(|inbound| inbound.protocol.is_http()) {
            let route = resources.get(ResourceType::Route, &format!("rds-inbound.{}", inbound.port));
            let json = resource_to_json(ResourceType::Route, route.expect("each HTTP port has routes"));
            let json = json.expect("our own resource is JSON");
            let host = &json["virtual_hosts"][0];
            prop_assert_eq!(json["virtual_hosts"].as_array().map(Vec::len), Some(1));
            let rules = &host["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]["rules"];
            let Admitted::Granted(grants) = &view.admitted else {
                prop_assert!(rules.is_null());
                continue;
            };
            prop_assert!(rules.is_object());
            let policies = rules["policies"].as_object().cloned().unwrap_or_default();
            let http: Vec<_> = grants.iter().filter(|(_, grant)| !grant.http.is_empty()).collect();
            prop_assert_eq!(policies.len(), http.len());
            for (name, grant) in http {
                let policy = &policies[&name.to_string()];
                let names: BTreeSet<String> = grant.sources.iter().map(|source| source.dns_name(trust_domain)).collect();
                prop_assert_eq!(strings(&policy["principals"], "exact"), names);
                prop_assert_eq!(policy["permissions"].as_array().map(Vec::len), Some(grant.http.len()));
            }
        }
        let everything = &json["default_filter_chain"]["filters"][0]["typed_config"]["cluster"];
        prop_assert_eq!(everything, "blackhole");
    }

    #[test]
    fn policies_and_the_mode_change_the_routes_of_http_and_nothing_that_ends_its_connections(
        view in view(), grants in grants()
    ) {
        let mut other = view.clone();
        let is_permissive = view.settings.access == Access::Permissive;
        other.settings.access = if is_permissive { Access::Granted } else { Access::Permissive };
        other.admitted = if is_permissive { Admitted::Granted(Arc::new(grants)) } else { Admitted::Everybody };
        let (before, after) = (translate(&view), translate(&other));
        // Both modes allow all services here: they keep names and bytes.
        prop_assert_eq!(before.of(ResourceType::Cluster), after.of(ResourceType::Cluster));
        prop_assert_eq!(before.of(ResourceType::Endpoint), after.of(ResourceType::Endpoint));
        let listener = |resources: &Resources, name: &str| {
            let resource = resources.get(ResourceType::Listener, name).expect("it always exists");
            resource_to_json(ResourceType::Listener, resource).expect("our own resource is JSON")
        };
        prop_assert_eq!(listener(&before, "outbound-listener"), listener(&after, "outbound-listener"));
        // Envoy drains a whole listener when anything but chains changes.
        let (mut before, mut after) = (listener(&before, "inbound-listener"), listener(&after, "inbound-listener"));
        let http = |listener: &mut Value| {
            let chains = listener["filter_chains"].take().as_array().cloned().unwrap_or_default();
            let is_http = |chain: &Value| chain["name"].as_str().is_some_and(|name| name.ends_with("_http"));
            chains.into_iter().filter(is_http).collect::<Vec<_>>()
        };
        prop_assert_eq!(http(&mut before), http(&mut after));
        prop_assert_eq!(before, after);
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
