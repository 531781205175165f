//! Names of resources. OSM's where a dashboard or a person may look for them; none of them names a pod.

use osm_model::{Protocol, ServiceName, Settings};

/// The listener that the pod's outbound connections are redirected to.
pub const OUTBOUND_LISTENER: &str = "outbound-listener";
/// The listener that connections to the pod are redirected to.
pub const INBOUND_LISTENER: &str = "inbound-listener";
/// The secret with the workload's certificate and key; only the pod's agent has it.
pub const SERVICE_CERT: &str = "service-cert";
/// The secret with the certificates that identities are checked against.
pub const ROOT_CERT: &str = "root-cert";

/// Where [`OUTBOUND_LISTENER`] listens.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Where [`INBOUND_LISTENER`] listens.
pub(crate) const INBOUND_PORT: u16 = 15003;
/// The cluster that connections end in that may not go anywhere.
pub(crate) const BLACKHOLE: &str = "blackhole";
/// The cluster of destinations outside the mesh: wherever the application dialled.
pub(crate) const PASSTHROUGH: &str = "passthrough-outbound";
/// The application protocol (ALPN) by which proxies of the mesh know each other.
pub(crate) const ALPN: &str = "osm";

/// `web.shop.svc.cluster.local`
pub(crate) fn fqdn(service: &ServiceName, settings: &Settings) -> String {
    format!("{}.{}.svc.{}", service.name, service.namespace, settings.cluster_domain)
}

/// The cluster of one port of a service: `shop/web|80`.
pub(crate) fn service_cluster(service: &ServiceName, port: u16) -> String {
    format!("{service}|{port}")
}

/// The cluster of the pod's own port: `local|8080`.
pub(crate) fn local_cluster(port: u16) -> String {
    format!("local|{port}")
}

/// `rds-outbound.80`
pub(crate) fn outbound_routes(port: u16) -> String {
    format!("rds-outbound.{port}")
}

/// `rds-inbound.8080`
pub(crate) fn inbound_routes(port: u16) -> String {
    format!("rds-inbound.{port}")
}

/// The one filter chain of all HTTP services on a port: `outbound_80_http`.
pub(crate) fn outbound_http_chain(port: u16) -> String {
    format!("outbound_{port}_http")
}

/// The filter chain of services on a port that may not be reached: `outbound_80_closed`.
pub(crate) fn outbound_closed_chain(port: u16) -> String {
    format!("outbound_{port}_closed")
}

/// The filter chain of one port of a service: `outbound_shop/db_3306_tcp`.
pub(crate) fn outbound_tcp_chain(service: &ServiceName, port: u16, protocol: Protocol) -> String {
    format!("outbound_{service}_{port}_{}", protocol_name(protocol))
}

/// The filter chain of one port of the pod: `inbound_8080_http`. gRPC is HTTP there: services may speak both on one
/// port, and which of them came first must not change the chain.
pub(crate) fn inbound_chain(port: u16, protocol: Protocol) -> String {
    format!("inbound_{port}_{}", if protocol.is_http() { "http" } else { "tcp" })
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::TcpServerFirst => "tcp-server-first",
    }
}
