//! The HTTP connection manager: from a connection to requests and their routes.

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, RouteSpecifier, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::util::pack_any;

use prost::Name;

use crate::parts::{NO_TIMEOUT, ads, network_filter, no, yes};
use crate::{access_log, rbac, route};

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The connection manager of clients: it fetches its routes, so that new services do not touch the listener.
pub(crate) fn outbound(routes: &str) -> Filter {
    network_filter(MANAGER, manager(routes, Vec::new()))
}

/// A connection manager that answers every request with 403, and says why.
pub(crate) fn closed(name: &str) -> Filter {
    let routes = RouteSpecifier::RouteConfig(route::closed(name));
    network_filter(MANAGER, envoy::HttpConnectionManager { route_specifier: Some(routes), ..manager(name, Vec::new()) })
}

/// The connection manager of a server: its routes say who is admitted.
pub(crate) fn inbound(routes: &str) -> Filter {
    let manager = envoy::HttpConnectionManager {
        // Else `/allowed/../forbidden` would be what is granted here, and something else to the application.
        normalize_path: yes(),
        ..manager(routes, vec![rbac::without_rules()])
    };
    network_filter(MANAGER, manager)
}

/// A filter of requests.
pub(crate) fn filter(name: &str, config: impl Name) -> envoy::HttpFilter {
    let config_type = Some(ConfigType::TypedConfig(pack_any(config)));
    envoy::HttpFilter { name: name.to_owned(), config_type, ..Default::default() }
}

fn manager(routes: &str, mut filters: Vec<envoy::HttpFilter>) -> envoy::HttpConnectionManager {
    filters.push(filter("envoy.filters.http.router", Router::default()));
    let rds = envoy::Rds { config_source: Some(ads()), route_config_name: routes.to_owned() };
    envoy::HttpConnectionManager {
        stat_prefix: routes.to_owned(),
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: filters,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        // Envoy's own limit of 5 minutes would cut streams that wait, as watches and slow answers do.
        stream_idle_timeout: Some(NO_TIMEOUT),
        // Only tracing needs one; the application's own are passed on.
        generate_request_id: no(),
        access_log: access_log::stdout(),
        ..Default::default()
    }
}
