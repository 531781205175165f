//! The routes of clients: for each port a virtual host for each service on it. Thousands of services may be in each, so
//! a host is encoded once, and a configuration is put together from encoded hosts.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use osm_model::{Service, ServiceName, Settings};
use osm_xds::Resource;

use super::{configuration, encode_host, forbidden, to_cluster, virtual_host};
use crate::cluster::is_dialled_by_pod;
use crate::names::{PASSTHROUGH, fqdn, outbound_routes, service_cluster};

/// What a workload is told that asks for a host that it may not reach, so that it can be told from the application's own
/// refusal.
const NOT_GRANTED: &str = "no policy of the mesh grants this workload to reach this host\n";

/// One HTTP port of a service in routes, as clients of other namespaces write it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    service: ServiceName,
    name: String,
    cluster: String,
    domains: Vec<String>,
    /// What only clients of the service's own namespace write.
    short_domains: Vec<String>,
    encoded: Vec<u8>,
}

/// All hosts of one port, with no domain twice: Envoy would refuse the whole port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PortHosts {
    port: u16,
    hosts: Vec<Arc<Host>>,
    domains: HashSet<String>,
    namespaces: BTreeSet<String>,
}

/// What becomes of a request to a host that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unrouted {
    /// 404
    NotFound,
    /// 403: it may be a service that may not be reached.
    Forbidden,
    /// It goes wherever the application dialled.
    PassedThrough,
}

impl Host {
    /// Of one port of a service.
    pub(crate) fn new(service: &Service, port: u16, settings: &Settings) -> Host {
        let name = format!("outbound_virtual-host|{}", fqdn(&service.name, settings));
        let cluster = service_cluster(&service.name, port);
        let domains = domains(service, port, settings);
        let encoded = encode(&name, domains.clone(), &cluster);
        Host {
            service: service.name.clone(),
            name,
            cluster,
            domains,
            short_domains: with_port(vec![service.name.name.clone()], is_dialled_by_pod(service), port),
            encoded,
        }
    }

    /// The same host with other domains; none when it has none left.
    fn encoded_with(&self, domains: Vec<String>) -> Vec<u8> {
        if domains.is_empty() { Vec::new() } else { encode(&self.name, domains, &self.cluster) }
    }
}

impl PortHosts {
    /// The hosts of a port; of two that claim one domain, the first has it.
    pub(crate) fn new(port: u16, hosts: &[Arc<Host>]) -> PortHosts {
        let mut taken = HashSet::with_capacity(hosts.iter().map(|host| host.domains.len()).sum());
        let mut kept = Vec::with_capacity(hosts.len());
        for host in hosts {
            let before = taken.len();
            let free: Vec<bool> = host.domains.iter().map(|domain| taken.insert(domain.clone())).collect();
            if taken.len() == before + host.domains.len() {
                kept.push(host.clone());
                continue;
            }
            let free = host.domains.iter().zip(free).filter(|(_, is_free)| *is_free);
            let domains: Vec<String> = free.map(|(domain, _)| domain.clone()).collect();
            kept.push(Arc::new(Host {
                service: host.service.clone(),
                name: host.name.clone(),
                cluster: host.cluster.clone(),
                encoded: host.encoded_with(domains.clone()),
                domains,
                short_domains: host.short_domains.clone(),
            }));
        }
        let namespaces = kept.iter().map(|host| host.service.namespace.clone()).collect();
        PortHosts { port, hosts: kept, domains: taken, namespaces }
    }

    /// Whether clients of a namespace have names of their own for a service on the port.
    pub(crate) fn is_of_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }
}

/// The routes of one port for clients in a namespace.
pub(crate) fn outbound(port: &PortHosts, namespace: &str, unrouted: Unrouted) -> Resource {
    let mut taken: HashSet<String> = HashSet::new();
    let mut ours: Vec<Vec<u8>> = Vec::new();
    for host in port.hosts.iter().filter(|host| host.service.namespace == namespace) {
        let is_free = |domain: &&String| !port.domains.contains(*domain) && taken.insert((*domain).clone());
        let short: Vec<String> = host.short_domains.iter().filter(is_free).cloned().collect();
        ours.push(host.encoded_with(short.into_iter().chain(host.domains.iter().cloned()).collect()));
    }
    let everything = |name: &str, action| encode_host(virtual_host(name, vec!["*".to_owned()], action));
    let last = match unrouted {
        Unrouted::NotFound => Vec::new(),
        Unrouted::Forbidden => everything("forbidden_virtual-host|*", forbidden(NOT_GRANTED)),
        Unrouted::PassedThrough => everything("egress_virtual-host|*", to_cluster(PASSTHROUGH.to_owned())),
    };
    let mut ours = ours.iter();
    let hosts: Vec<&[u8]> = port
        .hosts
        .iter()
        .map(|host| match host.service.namespace == namespace {
            true => ours.next().expect("one was made for each").as_slice(),
            false => host.encoded.as_slice(),
        })
        .chain([last.as_slice()])
        .collect();
    configuration(&outbound_routes(port.port), hosts.into_iter())
}

/// The routes of addresses that may not be reached, whatever host is asked for.
pub(crate) fn closed(name: &str) -> envoy::RouteConfiguration {
    let host = virtual_host("forbidden_virtual-host|*", vec!["*".to_owned()], forbidden(NOT_GRANTED));
    envoy::RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() }
}

/// Every way to write a service in a URL but for its name alone: its names as DNS resolves them, and its addresses.
fn domains(service: &Service, port: u16, settings: &Settings) -> Vec<String> {
    let mut host = format!("{}.{}", service.name.name, service.name.namespace);
    let mut hosts = vec![host.clone()];
    for label in ["svc"].into_iter().chain(settings.cluster_domain.split('.')) {
        host = format!("{host}.{label}");
        hosts.push(host.clone());
    }
    let mut domains = with_port(hosts, is_dialled_by_pod(service), port);
    let addresses = service.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    domains.extend(with_port(addresses.collect(), false, port));
    domains
}

/// The hosts, the names of pods below them (those of a StatefulSet have some), and all of them with the port.
fn with_port(mut hosts: Vec<String>, has_pods: bool, port: u16) -> Vec<String> {
    if has_pods {
        let pods: Vec<String> = hosts.iter().map(|host| format!("*.{host}")).collect();
        hosts.extend(pods);
    }
    hosts.into_iter().flat_map(|host| [host.clone(), format!("{host}:{port}")]).collect()
}

fn encode(name: &str, domains: Vec<String>, cluster: &str) -> Vec<u8> {
    encode_host(virtual_host(name, domains, to_cluster(cluster.to_owned())))
}
