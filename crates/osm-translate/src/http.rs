//! The HTTP connection manager: from a connection to requests and their routes.

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, RouteSpecifier, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::util::pack_any;

use crate::access_log;
use crate::parts::{NO_TIMEOUT, ads, network_filter, no};

/// A connection manager that fetches its routes, so that new services do not touch the listener.
pub(crate) fn connection_manager(routes: &str) -> Filter {
    let router = envoy::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(Router::default()))),
        ..Default::default()
    };
    let rds = envoy::Rds { config_source: Some(ads()), route_config_name: routes.to_owned() };
    let manager = envoy::HttpConnectionManager {
        stat_prefix: routes.to_owned(),
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![router],
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        // Envoy's own limit of 5 minutes would cut streams that wait, as watches and slow answers do.
        stream_idle_timeout: Some(NO_TIMEOUT),
        // Only tracing needs one; the application's own are passed on.
        generate_request_id: no(),
        access_log: access_log::stdout(),
        ..Default::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", manager)
}
