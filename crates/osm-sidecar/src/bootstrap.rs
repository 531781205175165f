//! Envoy's bootstrap: who it is, where its agent is, and what it counts. Everything else comes over xDS.

use std::path::Path;

use serde_json::{Value, json};

/// The cluster that names the agent's Unix socket. Starts with no namespace, so no service of the mesh can have it.
pub const AGENT_CLUSTER: &str = "agent";

/// What differs between two proxies' bootstraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap<'a> {
    /// `<namespace>/<pod>`.
    pub node_id: &'a str,
    /// `<service account>.<namespace>`, as in OSM.
    pub node_cluster: &'a str,
    /// Where the agent serves delta ADS to Envoy.
    pub xds_socket: &'a Path,
    /// Where Envoy serves its administration interface.
    pub admin_socket: &'a Path,
}

/// The bootstrap in Envoy's JSON.
///
/// `initial_fetch_timeout` is zero everywhere, which means "wait": with Envoy's default of 15 s it would call itself
/// live with no configuration at all.
pub fn bootstrap(of: &Bootstrap<'_>) -> Value {
    let from_ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    json!({
        "node": { "id": of.node_id, "cluster": of.node_cluster },
        // A Unix socket that only this uid can open (0600, written in decimal): over TCP every container of the pod
        // could stop Envoy.
        "admin": { "address": { "pipe": { "path": of.admin_socket, "mode": 0o600 } } },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": AGENT_CLUSTER } }],
            },
            "cds_config": from_ads.clone(),
            "lds_config": from_ads,
        },
        // Above 100 instructions Envoy would refuse a regular expression, and with it all rules of the port. Policies are
        // held to a size that stays below this limit before they get here.
        "layered_runtime": { "layers": [{
            "name": "limits",
            "static_layer": { "re2.max_program_size.error_level": 32768 },
        }] },
        "static_resources": { "clusters": [agent_cluster(of.xds_socket)] },
        "stats_config": { "stats_matcher": { "inclusion_list": { "patterns": counted() } } },
    })
}

fn agent_cluster(xds_socket: &Path) -> Value {
    json!({
        "name": AGENT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "load_assignment": {
            "cluster_name": AGENT_CLUSTER,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "pipe": { "path": xds_socket } } } }] }],
        },
    })
}

/// The statistics that are kept: what dashboards show and what the gate asks for. Everything else costs memory with
/// every service of the mesh.
fn counted() -> Value {
    json!([
        { "prefix": "server." },
        { "prefix": "cluster_manager." },
        { "prefix": "listener_manager." },
        { "prefix": "listener." },
        { "prefix": "tcp." },
        { "safe_regex": { "regex": r"cluster\..*\.(upstream_rq|upstream_cx|membership_|ssl\.|circuit_breakers\.).*" } },
        { "safe_regex": { "regex": r"http\..*\.(downstream_rq|downstream_cx|no_route|rbac\.).*" } },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_config_source_waits_for_its_first_answer() {
        let text = bootstrap(&Bootstrap {
            node_id: "shop/client-0",
            node_cluster: "client.shop",
            xds_socket: Path::new("/run/osm/xds.sock"),
            admin_socket: Path::new("/run/osm/admin.sock"),
        });
        assert_eq!(text.pointer("/dynamic_resources/cds_config/initial_fetch_timeout"), Some(&json!("0s")));
        assert_eq!(text.pointer("/dynamic_resources/lds_config/initial_fetch_timeout"), Some(&json!("0s")));
        assert_eq!(text.pointer("/admin/address/pipe/mode"), Some(&json!(384)));
        assert_eq!(text.pointer("/node/id"), Some(&json!("shop/client-0")));
    }
}
