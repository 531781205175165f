//! Routes (RDS): one route configuration for each port, with a virtual host for each service on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use osm_model::{Access, Service, Settings};
use osm_xds::Resource;

use crate::cluster::is_dialled_by_pod;
use crate::names::{PASSTHROUGH, fqdn, inbound_routes, local_cluster, outbound_routes, service_cluster};
use crate::parts::{NO_TIMEOUT, encode, no};

/// The routes of clients in a namespace to the HTTP services that they may reach, by port.
pub(crate) fn outbound(namespace: &str, services: &[Arc<Service>], settings: &Settings) -> Vec<Resource> {
    let mut ports: BTreeMap<u16, Vec<&Service>> = BTreeMap::new();
    for service in services {
        for (number, _) in service.ports.iter().filter(|(_, port)| port.protocol.is_http()) {
            ports.entry(*number).or_default().push(service);
        }
    }
    ports.into_iter().map(|(port, services)| outbound_port(port, namespace, &services, settings)).collect()
}

/// The routes of one of the pod's own ports: every request goes to the application, or none.
///
/// That nobody is admitted is said here and in the listener: a change of routes counts for the next request, one of
/// the listener only for the next connection.
pub(crate) fn inbound(port: u16, access: Access) -> Resource {
    let name = inbound_routes(port);
    let action = match access {
        Access::Permissive => to_cluster(local_cluster(port)),
        Access::Granted => Action::DirectResponse(envoy::DirectResponseAction { status: 403, ..Default::default() }),
    };
    let host = virtual_host("inbound_virtual-host|*", vec!["*".to_owned()], action);
    encode(&name, &configuration(&name, vec![host]))
}

fn outbound_port(port: u16, namespace: &str, services: &[&Service], settings: &Settings) -> Resource {
    let name = outbound_routes(port);
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    for service in services {
        // One domain in two hosts would make Envoy refuse the whole port; the first service by name has it.
        let mut domains = domains(service, port, namespace, settings);
        domains.retain(|domain| taken.insert(domain.clone()));
        if !domains.is_empty() {
            let host = format!("outbound_virtual-host|{}", fqdn(&service.name, settings));
            hosts.push(virtual_host(&host, domains, to_cluster(service_cluster(&service.name, port))));
        }
    }
    if settings.egress {
        hosts.push(virtual_host("egress_virtual-host|*", vec!["*".to_owned()], to_cluster(PASSTHROUGH.to_owned())));
    }
    encode(&name, &configuration(&name, hosts))
}

/// Every way to write a service in a URL: its names as DNS resolves them, and its addresses.
fn domains(service: &Service, port: u16, namespace: &str, settings: &Settings) -> Vec<String> {
    let name = &service.name;
    let mut hosts = Vec::new();
    if name.namespace == namespace {
        hosts.push(name.name.clone());
    }
    let mut host = format!("{}.{}", name.name, name.namespace);
    hosts.push(host.clone());
    for label in ["svc"].into_iter().chain(settings.cluster_domain.split('.')) {
        host = format!("{host}.{label}");
        hosts.push(host.clone());
    }
    if is_dialled_by_pod(service) {
        // The pods of a StatefulSet have names below the service's.
        let pods: Vec<String> = hosts.iter().map(|host| format!("*.{host}")).collect();
        hosts.extend(pods);
    }
    hosts.extend(service.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }));
    hosts.into_iter().flat_map(|host| [host.clone(), format!("{host}:{port}")]).collect()
}

fn to_cluster(cluster: String) -> Action {
    Action::Route(envoy::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        // Envoy's own limit of 15 s would cut requests that the application waits for.
        timeout: Some(NO_TIMEOUT),
        ..Default::default()
    })
}

/// A host with one route for everything.
fn virtual_host(name: &str, domains: Vec<String>, action: Action) -> envoy::VirtualHost {
    let everything =
        envoy::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route = envoy::Route { r#match: Some(everything), action: Some(action), ..Default::default() };
    envoy::VirtualHost { name: name.to_owned(), domains, routes: vec![route], ..Default::default() }
}

fn configuration(name: &str, virtual_hosts: Vec<envoy::VirtualHost>) -> envoy::RouteConfiguration {
    envoy::RouteConfiguration { name: name.to_owned(), virtual_hosts, validate_clusters: no(), ..Default::default() }
}
