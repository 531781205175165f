//! The inbound listener: only connections over the mesh's TLS reach the application; the others end in a chain that
//! goes nowhere, so that the access log says who tried.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac;
use osm_model::{Access, InboundPort, ProxyClass, Settings};
use osm_xds::Resource;

use super::{listener, original_destination, tcp_proxy};
use crate::http::connection_manager;
use crate::names::{ALPN, BLACKHOLE, INBOUND_LISTENER, INBOUND_PORT, inbound_chain, inbound_routes, local_cluster};
use crate::parts::{encode, listener_filter, network_filter, number};
use crate::tls;

/// The listener for these ports of the pod.
pub(crate) fn inbound(class: &ProxyClass, settings: &Settings) -> Resource {
    let refuse = envoy::FilterChain {
        name: "inbound-blackhole-filter-chain".to_owned(),
        filters: vec![tcp_proxy("inbound-tcp-proxy.blackhole", BLACKHOLE.to_owned())],
        ..Default::default()
    };
    let listener = envoy::Listener {
        listener_filters: vec![
            listener_filter("envoy.filters.listener.tls_inspector", TlsInspector::default()),
            original_destination(),
        ],
        filter_chains: class.inbound.iter().map(|inbound| chain(inbound, settings)).collect(),
        default_filter_chain: Some(refuse),
        ..listener(INBOUND_LISTENER, INBOUND_PORT, TrafficDirection::Inbound)
    };
    encode(INBOUND_LISTENER, &listener)
}

fn chain(inbound: &InboundPort, settings: &Settings) -> envoy::FilterChain {
    let name = inbound_chain(inbound.port, inbound.protocol);
    let to_application = if inbound.protocol.is_http() {
        connection_manager(&inbound_routes(inbound.port))
    } else {
        tcp_proxy(&name, local_cluster(inbound.port))
    };
    let filters = match settings.access {
        Access::Permissive => vec![to_application],
        // The list of grants is looked at with the client's first byte: a server that speaks first would have been
        // heard by then. So TCP does not lead to the application at all.
        Access::Granted if !inbound.protocol.is_http() => {
            vec![admit_nobody(), tcp_proxy(&name, BLACKHOLE.to_owned())]
        }
        Access::Granted => vec![admit_nobody(), to_application],
    };
    let over_mesh_tls = envoy::FilterChainMatch {
        destination_port: number(u32::from(inbound.port)),
        transport_protocol: "tls".to_owned(),
        application_protocols: vec![ALPN.to_owned()],
        ..Default::default()
    };
    envoy::FilterChain {
        name,
        filter_chain_match: Some(over_mesh_tls),
        transport_socket: Some(tls::downstream(settings)),
        filters,
        ..Default::default()
    }
}

/// A list of grants with nothing in it.
fn admit_nobody() -> envoy::Filter {
    let rules = rbac::Rbac { action: rbac::rbac::Action::Allow.into(), ..Default::default() };
    let filter = Rbac { rules: Some(rules), stat_prefix: "network-".to_owned(), ..Default::default() };
    network_filter("envoy.filters.network.rbac", filter)
}
