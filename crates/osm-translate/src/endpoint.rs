//! Load assignments (EDS): the endpoints of each cluster that is fetched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::endpoint::v3 as envoy;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use osm_model::Service;
use osm_xds::Resource;
use prost::Message;

use crate::cluster::is_dialled_by_pod;
use crate::names::service_cluster;
use crate::parts::{address, encode};

/// The endpoints of one port of a service, possibly none; nothing for a cluster that needs no list.
pub(crate) fn of_service(service: &Service, port: u16) -> Option<Resource> {
    if is_dialled_by_pod(service) {
        return None;
    }
    let name = service_cluster(&service.name, port);
    let sockets: BTreeSet<_> = service.ports[&port].endpoints.iter().map(|endpoint| endpoint.address).collect();
    let assignment = assignment(&name, sockets.into_iter().map(|socket| (socket.ip().to_string(), socket.port())));
    Some(encode(&name, &assignment))
}

/// The addresses that a load assignment holds; none if it is not one of ours.
pub fn addresses(assignment: &Resource) -> BTreeSet<IpAddr> {
    let decoded = envoy::ClusterLoadAssignment::decode(&*assignment.body).unwrap_or_default();
    let endpoints = decoded.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let of = |endpoint: envoy::LbEndpoint| {
        let HostIdentifier::Endpoint(endpoint) = endpoint.host_identifier? else { return None };
        let Address::SocketAddress(socket) = endpoint.address?.address? else { return None };
        socket.address.parse().ok()
    };
    endpoints.filter_map(of).collect()
}

/// An assignment of these addresses and ports.
pub(crate) fn assignment(
    cluster: &str,
    sockets: impl IntoIterator<Item = (String, u16)>,
) -> envoy::ClusterLoadAssignment {
    let endpoint = |(ip, port): (String, u16)| {
        let endpoint = envoy::Endpoint { address: Some(address(&ip, port)), ..Default::default() };
        envoy::LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
    };
    let lb_endpoints: Vec<_> = sockets.into_iter().map(endpoint).collect();
    let locality = envoy::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    let endpoints = if locality.lb_endpoints.is_empty() { Vec::new() } else { vec![locality] };
    envoy::ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }
}
