//! Listeners (LDS): the two that the pod's connections are redirected to. Both always exist, whatever is in them:
//! the pod's start waits for both.

mod inbound;
mod outbound;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, UpstreamConnectMode};

use crate::access_log;
use crate::parts::{address, listener_filter, network_filter, number};

pub(crate) use inbound::inbound;
pub(crate) use outbound::{Open, outbound};

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// A listener on every IPv4 address. Chains may come and go without a word to the connections of others; any other
/// field that changes makes Envoy drain them all, so nothing else here depends on the view.
fn listener(name: &str, port: u16, direction: TrafficDirection) -> envoy::Listener {
    envoy::Listener {
        name: name.to_owned(),
        address: Some(address("0.0.0.0", port)),
        traffic_direction: direction.into(),
        access_log: access_log::stdout(),
        ..Default::default()
    }
}

/// The filter that finds out where the connection went before it was redirected.
fn original_destination() -> envoy::ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", OriginalDst::default())
}

/// A filter that passes the connection's bytes to a cluster.
fn tcp_proxy(stat_prefix: &str, cluster: String) -> envoy::Filter {
    network_filter(TCP_PROXY, to_cluster(stat_prefix, cluster))
}

/// The same for connections over TLS, once the client has proved who it is. By itself the filter connects to the
/// application at once, which would then see a connection of somebody who is not admitted.
fn tcp_proxy_after_handshake(stat_prefix: &str, cluster: String) -> envoy::Filter {
    let proxy = TcpProxy {
        upstream_connect_mode: UpstreamConnectMode::OnDownstreamTlsHandshake.into(),
        // The mode asks for a number; with none, the client is not read from until the application is connected.
        max_early_data_bytes: number(0),
        ..to_cluster(stat_prefix, cluster)
    };
    network_filter(TCP_PROXY, proxy)
}

fn to_cluster(stat_prefix: &str, cluster: String) -> TcpProxy {
    TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    }
}
