//! Routes (RDS): one route configuration for each port.

mod inbound;
mod outbound;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use osm_xds::Resource;
use prost::Message;

use crate::parts::{NO_TIMEOUT, no};

pub(crate) use inbound::inbound;
pub(crate) use outbound::{Host, PortHosts, Unrouted, closed, outbound};

/// A host in the bytes of a route configuration that has nothing else. Bytes of such, one after the other, are one
/// configuration with all of their hosts (Protocol Buffers, encoding: the last one wins, lists are appended). So a host
/// is encoded once, however many configurations it is in.
fn encode_host(host: envoy::VirtualHost) -> Vec<u8> {
    envoy::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() }.encode_to_vec()
}

/// A route configuration of hosts that are encoded.
fn configuration<'h>(name: &str, hosts: impl Iterator<Item = &'h [u8]> + Clone) -> Resource {
    let empty = envoy::RouteConfiguration { name: name.to_owned(), validate_clusters: no(), ..Default::default() };
    let mut body = Vec::with_capacity(empty.encoded_len() + hosts.clone().map(<[u8]>::len).sum::<usize>());
    empty.encode(&mut body).expect("a vector grows");
    hosts.for_each(|host| body.extend_from_slice(host));
    Resource::new(name, body)
}

/// A host with one route for everything.
fn virtual_host(name: &str, domains: Vec<String>, action: Action) -> envoy::VirtualHost {
    let everything =
        envoy::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route = envoy::Route { r#match: Some(everything), action: Some(action), ..Default::default() };
    envoy::VirtualHost { name: name.to_owned(), domains, routes: vec![route], ..Default::default() }
}

fn to_cluster(cluster: String) -> Action {
    Action::Route(envoy::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        // Envoy's own limit of 15 s would cut requests that the application waits for.
        timeout: Some(NO_TIMEOUT),
        ..Default::default()
    })
}

fn forbidden(body: &str) -> Action {
    let body = DataSource { specifier: Some(Specifier::InlineString(body.to_owned())), ..Default::default() };
    Action::DirectResponse(envoy::DirectResponseAction { status: 403, body: Some(body), ..Default::default() })
}
