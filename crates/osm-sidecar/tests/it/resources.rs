//! The configuration of a pod that calls itself through the mesh: out through HTTP routes and mutual TLS, in through
//! the inbound listener, to the application.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration};
use envoy_types::util::pack_any;
use osm_xds::{Resource, ResourceType, Resources};
use prost::Message;

const SERVER: &str = "shop/server|80";
const LOCAL: &str = "local|8080";
const ROUTES: &str = "rds-outbound.80";

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) outbound: u16,
    pub(crate) inbound: u16,
    pub(crate) app: u16,
}

/// Everything.
pub(crate) fn complete(ports: Ports) -> Resources {
    let mut all = Resources::default();
    all.insert(ResourceType::Cluster, resource(SERVER, &server()));
    all.insert(ResourceType::Cluster, resource(LOCAL, &local(ports.app)));
    let assignment = assignment(SERVER, ports.inbound);
    all.insert(ResourceType::Endpoint, resource(SERVER, &assignment));
    all.insert(ResourceType::Listener, resource("outbound-listener", &outbound(ports.outbound)));
    all.insert(ResourceType::Listener, resource("inbound-listener", &inbound(ports.inbound)));
    all.insert(ResourceType::Route, resource(ROUTES, &routes()));
    all
}

/// Everything, but with an inbound listener that Envoy does not understand.
pub(crate) fn with_a_bad_listener(ports: Ports) -> Resources {
    let mut all = complete(ports);
    let mut bad = inbound(ports.inbound);
    let unknown = Any { type_url: "type.googleapis.com/osm.NoSuchFilter".into(), value: Vec::new() };
    bad.filter_chains[0].filters = vec![filter("osm.no_such_filter", unknown)];
    all.insert(ResourceType::Listener, resource("inbound-listener", &bad));
    all
}

/// The same, and one more virtual host.
pub(crate) fn with_another_route(ports: Ports) -> Resources {
    let mut all = complete(ports);
    let mut more = routes();
    let other =
        route::VirtualHost { name: "other".into(), domains: vec!["other".into()], ..more.virtual_hosts[0].clone() };
    more.virtual_hosts.push(other);
    all.insert(ResourceType::Route, resource(ROUTES, &more));
    all
}

/// The same, but every path is forbidden.
pub(crate) fn with_forbidden_routes(ports: Ports) -> Resources {
    let mut all = complete(ports);
    let mut forbidden = routes();
    let answer = route::DirectResponseAction { status: 403, ..Default::default() };
    forbidden.virtual_hosts[0].routes[0].action = Some(route::route::Action::DirectResponse(answer));
    all.insert(ResourceType::Route, resource(ROUTES, &forbidden));
    all
}

/// The same, and one more cluster that nobody uses.
pub(crate) fn with_another_cluster(ports: Ports) -> Resources {
    let mut all = complete(ports);
    all.insert(ResourceType::Cluster, resource("local|1", &Cluster { name: "local|1".into(), ..local(ports.app) }));
    all
}

/// Connections go straight to the application, in a filter chain that differs by its name for statistics.
pub(crate) fn with_tcp_outbound(ports: Ports, stat_prefix: &str) -> Resources {
    let mut all = complete(ports);
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.into(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(LOCAL.into())),
        ..Default::default()
    };
    let mut tcp = outbound(ports.outbound);
    tcp.filter_chains[0].filters = vec![filter("envoy.filters.network.tcp_proxy", pack_any(proxy))];
    all.insert(ResourceType::Listener, resource("outbound-listener", &tcp));
    all.remove(ResourceType::Route, ROUTES);
    all
}

fn resource(name: &str, message: &impl Message) -> Resource {
    Resource::new(name, message.encode_to_vec())
}

fn server() -> Cluster {
    let context = tls::UpstreamTlsContext { common_tls_context: Some(certificates()), ..Default::default() };
    Cluster {
        name: SERVER.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(cluster::EdsClusterConfig { eds_config: Some(ads()), ..Default::default() }),
        transport_socket: Some(tls_socket(pack_any(context))),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    }
}

fn local(port: u16) -> Cluster {
    Cluster {
        name: LOCAL.into(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static as i32)),
        load_assignment: Some(assignment(LOCAL, port)),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    }
}

fn assignment(cluster: &str, port: u16) -> endpoint::ClusterLoadAssignment {
    let endpoint = endpoint::Endpoint { address: Some(address(port)), ..Default::default() };
    let of_endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = endpoint::LocalityLbEndpoints { lb_endpoints: vec![of_endpoint], ..Default::default() };
    endpoint::ClusterLoadAssignment { cluster_name: cluster.into(), endpoints: vec![locality], ..Default::default() }
}

fn outbound(port: u16) -> listener::Listener {
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(Router::default()))),
        ..Default::default()
    };
    let rds = hcm::Rds { config_source: Some(ads()), route_config_name: ROUTES.into() };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "outbound.80".into(),
        http_filters: vec![router],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    let filters = vec![filter("envoy.filters.network.http_connection_manager", pack_any(manager))];
    listener::Listener {
        name: "outbound-listener".into(),
        address: Some(address(port)),
        filter_chains: vec![listener::FilterChain { filters, ..Default::default() }],
        ..Default::default()
    }
}

fn inbound(port: u16) -> listener::Listener {
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(certificates()),
        require_client_certificate: Some(BoolValue { value: true }),
        ..Default::default()
    };
    let proxy = TcpProxy {
        stat_prefix: "inbound.8080".into(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(LOCAL.into())),
        ..Default::default()
    };
    let chain = listener::FilterChain {
        transport_socket: Some(tls_socket(pack_any(context))),
        filters: vec![filter("envoy.filters.network.tcp_proxy", pack_any(proxy))],
        ..Default::default()
    };
    listener::Listener {
        name: "inbound-listener".into(),
        address: Some(address(port)),
        filter_chains: vec![chain],
        traffic_direction: core::TrafficDirection::Inbound as i32,
        ..Default::default()
    }
}

fn routes() -> route::RouteConfiguration {
    let to_server = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(SERVER.into())),
        ..Default::default()
    };
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..Default::default()
    };
    let one = route::Route {
        r#match: Some(everything),
        action: Some(route::route::Action::Route(to_server)),
        ..Default::default()
    };
    let host = route::VirtualHost {
        name: "server".into(),
        domains: vec!["*".into()],
        routes: vec![one],
        ..Default::default()
    };
    route::RouteConfiguration { name: ROUTES.into(), virtual_hosts: vec![host], ..Default::default() }
}

fn certificates() -> tls::CommonTlsContext {
    let secret = |name: &str| tls::SdsSecretConfig { name: name.into(), sds_config: Some(ads()) };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("service-cert")],
        validation_context_type: Some(
            tls::common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(secret("root-cert")),
        ),
        ..Default::default()
    }
}

fn tls_socket(context: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn filter(name: &str, config: Any) -> listener::Filter {
    listener::Filter { name: name.into(), config_type: Some(listener::filter::ConfigType::TypedConfig(config)) }
}

fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        initial_fetch_timeout: Some(Duration::default()),
        ..Default::default()
    }
}

fn address(port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: "127.0.0.1".into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}
