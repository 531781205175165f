//! The inbound listener: only connections over the mesh's TLS reach the application; the others end in a chain that
//! goes nowhere, so that the access log says who tried.

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use osm_model::{Admitted, InboundPort, ProxyClass, Settings};
use osm_xds::Resource;

use super::{listener, original_destination, tcp_proxy, tcp_proxy_after_handshake};
use crate::http;
use crate::names::{ALPN, BLACKHOLE, INBOUND_LISTENER, INBOUND_PORT, inbound_chain, inbound_routes, local_cluster};
use crate::parts::{encode, listener_filter, number};
use crate::tls::{self, Clients};

/// The listener for these ports of the pod.
pub(crate) fn inbound(class: &ProxyClass, admitted: &Admitted, settings: &Settings) -> Resource {
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
        filter_chains: class.inbound.iter().map(|inbound| chain(inbound, admitted, settings)).collect(),
        default_filter_chain: Some(refuse),
        ..listener(INBOUND_LISTENER, INBOUND_PORT, TrafficDirection::Inbound)
    };
    encode(INBOUND_LISTENER, &listener)
}

fn chain(inbound: &InboundPort, admitted: &Admitted, settings: &Settings) -> envoy::FilterChain {
    let name = inbound_chain(inbound.port, inbound.protocol);
    let (filter, clients) = if inbound.protocol.is_http() {
        // The routes say who is admitted, so that the chain never changes and no connection ends by a policy.
        (http::inbound(&inbound_routes(inbound.port)), Clients::OfMesh)
    } else {
        // There is no later moment: a server may speak first. A change of who is admitted changes the chain, and Envoy
        // drains the connections that were made by the old one.
        (tcp_proxy_after_handshake(&name, local_cluster(inbound.port)), tcp_clients(inbound.port, admitted, settings))
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
        transport_socket: Some(tls::downstream(clients, settings)),
        filters: vec![filter],
        ..Default::default()
    }
}

fn tcp_clients(port: u16, admitted: &Admitted, settings: &Settings) -> Clients {
    match admitted {
        Admitted::Everybody => Clients::OfMesh,
        Admitted::Granted(grants) => {
            let grants = grants.values().filter(|grant| grant.tcp.contains(port));
            let sources = grants.flat_map(|grant| &grant.sources);
            Clients::Only(sources.map(|source| source.dns_name(&settings.trust_domain)).collect())
        }
    }
}
