//! Clusters (CDS): one for each port of each service, one for each port of the pod, and two that are always the same.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy, OriginalDstLbConfig,
};
use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use osm_model::{InboundPort, Service, ServicePort, Settings};
use osm_xds::Resource;

use crate::names::{BLACKHOLE, PASSTHROUGH, local_cluster, service_cluster};
use crate::parts::{ads, encode, number};
use crate::{endpoint, tls};

/// One port of a service, over mutual TLS. `port` is one of the service's ports.
///
/// A headless service has no address that stands for all its pods: its clients choose the pod by dialling it, so the
/// connection goes to the address that was dialled, if that address can prove to be of the service.
pub(crate) fn of_service(service: &Service, port: u16, settings: &Settings) -> Resource {
    let name = service_cluster(&service.name, port);
    let served = &service.ports[&port];
    let base = envoy::Cluster {
        name: name.clone(),
        transport_socket: Some(tls::upstream(service, settings)),
        typed_extension_protocol_options: if served.protocol.is_http() { same_http_version() } else { HashMap::new() },
        circuit_breakers: Some(unlimited()),
        ..Default::default()
    };
    let cluster = if is_dialled_by_pod(service) {
        let lb_config = OriginalDstLbConfig { upstream_port_override: target(port, served), ..Default::default() };
        envoy::Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
            lb_policy: LbPolicy::ClusterProvided.into(),
            lb_config: Some(LbConfig::OriginalDstLbConfig(lb_config)),
            ..base
        }
    } else {
        let eds = EdsClusterConfig { eds_config: Some(ads()), ..Default::default() };
        envoy::Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            eds_cluster_config: Some(eds),
            ..base
        }
    };
    encode(&name, &cluster)
}

/// Whether clients dial the service's pods themselves.
pub(crate) fn is_dialled_by_pod(service: &Service) -> bool {
    service.addresses.is_empty()
}

/// The pod's own port, in plain text over the loopback.
pub(crate) fn local(inbound: &InboundPort) -> Resource {
    let name = local_cluster(inbound.port);
    let cluster = envoy::Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(endpoint::assignment(&name, [("127.0.0.1".to_owned(), inbound.port)])),
        typed_extension_protocol_options: if inbound.protocol.is_http() { same_http_version() } else { HashMap::new() },
        circuit_breakers: Some(unlimited()),
        ..Default::default()
    };
    encode(&name, &cluster)
}

/// Nowhere: a connection that goes there is closed.
pub(crate) fn blackhole() -> Resource {
    let cluster = envoy::Cluster {
        name: BLACKHOLE.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(endpoint::assignment(BLACKHOLE, [])),
        ..Default::default()
    };
    encode(BLACKHOLE, &cluster)
}

/// Wherever the application dialled, as it sent it.
pub(crate) fn passthrough() -> Resource {
    let cluster = envoy::Cluster {
        name: PASSTHROUGH.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        typed_extension_protocol_options: same_http_version(),
        circuit_breakers: Some(unlimited()),
        ..Default::default()
    };
    encode(PASSTHROUGH, &cluster)
}

/// The pods' port, where it is one and not the service's.
fn target(port: u16, served: &ServicePort) -> Option<envoy_types::pb::google::protobuf::UInt32Value> {
    match served.targets.first() {
        Some(target) if served.targets.len() == 1 && *target != port => number(u32::from(*target)),
        Some(_) | None => None,
    }
}

/// HTTP/1 requests go on as HTTP/1, HTTP/2 as HTTP/2: gRPC needs it, and nobody is surprised.
fn same_http_version() -> HashMap<String, Any> {
    let same = UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(same)),
        ..Default::default()
    };
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack_any(options))])
}

/// Envoy's own limits (1,024 connections and requests) would refuse what the application would have got without us.
fn unlimited() -> envoy::CircuitBreakers {
    let thresholds = envoy::circuit_breakers::Thresholds {
        max_connections: number(u32::MAX),
        max_pending_requests: number(u32::MAX),
        max_requests: number(u32::MAX),
        max_retries: number(u32::MAX),
        ..Default::default()
    };
    envoy::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}
