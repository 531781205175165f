//! Small configurations for the real Envoy: HTTP on one listener, by one route, to EDS clusters.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::{
    pb::{
        envoy::{
            config::{
                cluster::v3::{Cluster, cluster},
                core::v3 as core,
                endpoint::v3 as endpoint,
                listener::v3 as listener,
                route::v3 as route,
            },
            extensions::{
                filters::{http::router::v3::Router, network::http_connection_manager::v3 as hcm},
                transport_sockets::tls::v3 as tls,
            },
        },
        google::protobuf::{Any, Duration},
    },
    util::pack_any,
};
use osm_xds::{Resource, ResourceType, Resources};
use prost::Message;

/// What Envoy is to have.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) clusters: BTreeMap<&'static str, ClusterPlan>,
    pub(crate) listener: Option<ListenerPlan>,
    /// The cluster that the route leads to.
    pub(crate) route_to: Option<&'static str>,
    pub(crate) secrets: Option<Arc<Secrets>>,
}

#[derive(Clone, Default)]
pub(crate) struct ClusterPlan {
    pub(crate) connect_timeout_s: i64,
    /// The port of the only endpoint.
    pub(crate) port: u16,
    /// With certificates from SDS.
    pub(crate) is_tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerPlan {
    /// Counts under this name, so that changing it changes the listener.
    Good(&'static str),
    /// With a filter that Envoy does not know.
    Bad,
}

pub(crate) struct Secrets {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) root_pem: String,
}

pub(crate) const LISTENER: &str = "outbound-listener";
pub(crate) const ROUTE: &str = "rds-outbound.80";

impl Plan {
    /// A listener whose route leads to `cluster`, which is at `port`.
    pub(crate) fn to(cluster: &'static str, port: u16) -> Self {
        let plan = ClusterPlan { connect_timeout_s: 1, port, is_tls: false };
        Self {
            clusters: [(cluster, plan)].into(),
            listener: Some(ListenerPlan::Good("first")),
            route_to: Some(cluster),
            secrets: None,
        }
    }

    pub(crate) fn resources(&self) -> Arc<Resources> {
        let mut all = Resources::default();
        for (name, plan) in &self.clusters {
            all.insert(ResourceType::Cluster, resource(name, &plan.cluster(name)));
            all.insert(ResourceType::Endpoint, resource(name, &plan.assignment(name)));
        }
        if let Some(plan) = self.listener {
            all.insert(ResourceType::Listener, resource(LISTENER, &listener(plan)));
        }
        if let Some(cluster) = self.route_to {
            all.insert(ResourceType::Route, resource(ROUTE, &route(cluster)));
        }
        if let Some(secrets) = &self.secrets {
            all.insert(ResourceType::Secret, resource("service-cert", &secrets.service_cert()));
            all.insert(ResourceType::Secret, resource("root-cert", &secrets.root_cert()));
        }
        Arc::new(all)
    }
}

fn resource(name: &str, message: &impl Message) -> Resource {
    Resource::new(name, message.encode_to_vec())
}

impl ClusterPlan {
    fn cluster(&self, name: &str) -> Cluster {
        let secret = |name: &str| tls::SdsSecretConfig { name: name.into(), sds_config: Some(ads()) };
        let certificates = tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret("service-cert")],
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(secret("root-cert")),
            ),
            ..Default::default()
        };
        let context = tls::UpstreamTlsContext { common_tls_context: Some(certificates), ..Default::default() };
        let socket = core::TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
        };
        Cluster {
            name: name.into(),
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
            eds_cluster_config: Some(cluster::EdsClusterConfig { eds_config: Some(ads()), ..Default::default() }),
            connect_timeout: Some(Duration { seconds: self.connect_timeout_s, nanos: 0 }),
            transport_socket: self.is_tls.then_some(socket),
            ..Default::default()
        }
    }

    fn assignment(&self, name: &str) -> endpoint::ClusterLoadAssignment {
        let at = endpoint::Endpoint { address: Some(address(self.port)), ..Default::default() };
        let one = endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(at)),
            ..Default::default()
        };
        let locality = endpoint::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
        endpoint::ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![locality], ..Default::default() }
    }
}

impl Secrets {
    fn service_cert(&self) -> tls::Secret {
        let certificate = tls::TlsCertificate {
            certificate_chain: Some(inline(&self.chain_pem)),
            private_key: Some(inline(&self.key_pem)),
            ..Default::default()
        };
        tls::Secret { name: "service-cert".into(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) }
    }

    fn root_cert(&self) -> tls::Secret {
        let context =
            tls::CertificateValidationContext { trusted_ca: Some(inline(&self.root_pem)), ..Default::default() };
        tls::Secret { name: "root-cert".into(), r#type: Some(tls::secret::Type::ValidationContext(context)) }
    }
}

/// Binds any free port: Envoy tells which.
fn listener(plan: ListenerPlan) -> listener::Listener {
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(Router::default()))),
        ..Default::default()
    };
    let rds = hcm::Rds { config_source: Some(ads()), route_config_name: ROUTE.into() };
    let counted_as = |stat_prefix: &str| hcm::HttpConnectionManager {
        stat_prefix: stat_prefix.into(),
        http_filters: vec![router],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    let config = match plan {
        ListenerPlan::Good(stat_prefix) => pack_any(counted_as(stat_prefix)),
        ListenerPlan::Bad => Any { type_url: "type.googleapis.com/osm.NoSuchFilter".into(), value: Vec::new() },
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(config)),
    };
    listener::Listener {
        name: LISTENER.into(),
        address: Some(address(0)),
        filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

fn route(cluster: &str) -> route::RouteConfiguration {
    let to_cluster = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..Default::default()
    };
    let one = route::Route {
        r#match: Some(everything),
        action: Some(route::route::Action::Route(to_cluster)),
        ..Default::default()
    };
    let host =
        route::VirtualHost { name: "all".into(), domains: vec!["*".into()], routes: vec![one], ..Default::default() };
    route::RouteConfiguration { name: ROUTE.into(), virtual_hosts: vec![host], ..Default::default() }
}

fn inline(text: &str) -> core::DataSource {
    core::DataSource { specifier: Some(core::data_source::Specifier::InlineString(text.into())), ..Default::default() }
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
