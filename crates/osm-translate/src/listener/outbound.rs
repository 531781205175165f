//! The outbound listener. It has the original destination as its only listener filter: nothing looks into the bytes
//! before a chain is chosen, so programs whose server speaks first work without saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use osm_model::{Service, ServicePort, Settings};
use osm_xds::Resource;

use super::{listener, original_destination, tcp_proxy};
use crate::cluster::is_dialled_by_pod;
use crate::http;
use crate::names::{
    BLACKHOLE, OUTBOUND_LISTENER, OUTBOUND_PORT, PASSTHROUGH, outbound_closed_chain, outbound_http_chain,
    outbound_routes, outbound_tcp_chain, service_cluster,
};
use crate::parts::{encode, number, single};

/// What may be reached, and the HTTP ports of the mesh.
pub(crate) struct Open<'m> {
    pub(crate) services: &'m [Arc<Service>],
    pub(crate) http_ports: BTreeSet<u16>,
}

/// The listener: one chain for each HTTP port, whatever services are on it, one for each port of a TCP service, and one
/// for each port on which some addresses are closed.
pub(crate) fn outbound(open: &Open<'_>, closed: &BTreeMap<u16, BTreeSet<IpAddr>>, settings: &Settings) -> Resource {
    let mut chains: Vec<envoy::FilterChain> = open.http_ports.iter().copied().map(http_chain).collect();
    let mut taken = BTreeSet::new();
    for service in open.services {
        for (number, port) in service.ports.iter().filter(|(_, port)| !port.protocol.is_http()) {
            chains.extend(tcp_chains(service, *number, port, &mut taken));
        }
    }
    for (port, addresses) in closed {
        let is_free = |ip: &IpAddr| taken.insert((*ip, *port));
        let addresses: Vec<IpAddr> = addresses.iter().copied().filter(is_free).collect();
        if !addresses.is_empty() {
            chains.push(closed_chain(*port, &addresses, open.http_ports.contains(port)));
        }
    }
    let listener = envoy::Listener {
        listener_filters: vec![original_destination()],
        filter_chains: chains,
        default_filter_chain: Some(default_chain(settings)),
        ..listener(OUTBOUND_LISTENER, OUTBOUND_PORT, TrafficDirection::Outbound)
    };
    encode(OUTBOUND_LISTENER, &listener)
}

fn http_chain(port: u16) -> envoy::FilterChain {
    envoy::FilterChain {
        name: outbound_http_chain(port),
        filter_chain_match: Some(destination(port, &[])),
        filters: vec![http::outbound(&outbound_routes(port))],
        ..Default::default()
    }
}

/// A request is told why it goes no further; a connection of another protocol is closed.
fn closed_chain(port: u16, addresses: &[IpAddr], is_http: bool) -> envoy::FilterChain {
    let name = outbound_closed_chain(port);
    let filter = if is_http { http::closed(&name) } else { tcp_proxy(&name, BLACKHOLE.to_owned()) };
    envoy::FilterChain {
        name,
        filter_chain_match: Some(destination(port, addresses)),
        filters: vec![filter],
        ..Default::default()
    }
}

/// One chain for all of a service's addresses. A headless service has one for each pod, so that a pod that comes or
/// goes leaves the connections to the others alone.
///
/// `taken` are the addresses and ports that have a chain already: with two for one, Envoy would refuse the listener.
fn tcp_chains(
    service: &Service,
    number: u16,
    port: &ServicePort,
    taken: &mut BTreeSet<(IpAddr, u16)>,
) -> Vec<envoy::FilterChain> {
    let name = outbound_tcp_chain(&service.name, number, port.protocol);
    let mut is_free = |ip: &IpAddr| taken.insert((*ip, number));
    let groups: Vec<(String, Vec<IpAddr>)> = if is_dialled_by_pod(service) {
        let pods: BTreeSet<IpAddr> = port.endpoints.iter().map(|endpoint| endpoint.address.ip()).collect();
        pods.into_iter().filter(&mut is_free).map(|ip| (format!("{name}_{ip}"), vec![ip])).collect()
    } else {
        let addresses: Vec<IpAddr> = service.addresses.iter().copied().filter(&mut is_free).collect();
        if addresses.is_empty() { Vec::new() } else { vec![(name.clone(), addresses)] }
    };
    let chain = |(chain_name, addresses): (String, Vec<IpAddr>)| envoy::FilterChain {
        name: chain_name,
        filter_chain_match: Some(destination(number, &addresses)),
        // Statistics are the service's, not the pod's.
        filters: vec![tcp_proxy(&name, service_cluster(&service.name, number))],
        ..Default::default()
    };
    groups.into_iter().map(chain).collect()
}

fn destination(port: u16, addresses: &[IpAddr]) -> envoy::FilterChainMatch {
    envoy::FilterChainMatch {
        destination_port: number(u32::from(port)),
        prefix_ranges: addresses.iter().copied().map(single).collect(),
        ..Default::default()
    }
}

/// For destinations outside the mesh.
fn default_chain(settings: &Settings) -> envoy::FilterChain {
    let (name, cluster) = if settings.egress {
        ("outbound-egress-filter-chain", PASSTHROUGH)
    } else {
        ("outbound-blackhole-filter-chain", BLACKHOLE)
    };
    envoy::FilterChain {
        name: name.to_owned(),
        filters: vec![tcp_proxy(&format!("egress-tcp-proxy.{cluster}"), cluster.to_owned())],
        ..Default::default()
    }
}
