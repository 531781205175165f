//! The real Envoy accepts every golden case: its resources as one bootstrap, with `--mode validate`.

use std::fs;
use std::path::Path;

use osm_translate::{to_json, translate};
use serde_json::{Value, json};

use crate::view;

#[test]
fn envoy_accepts_the_resources_of_every_golden_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/xds");
    let mut cases = 0;
    for entry in fs::read_dir(folder).expect("there are golden cases") {
        let path = entry.expect("the folder can be listed").path();
        if !path.to_string_lossy().ends_with(".in.yaml") {
            continue;
        }
        let input = fs::read_to_string(&path).expect("a listed file can be read");
        let resources = to_json(&translate(&view::read(&input))).expect("our own resources are JSON");
        let verdict = osm_testkit::validate_with_envoy(&bootstrap(&resources));
        assert!(verdict.is_ok(), "{}: {}", path.display(), verdict.unwrap_err());
        cases += 1;
    }
    assert!(cases > 0, "no case was found");
}

#[test]
fn what_envoy_would_refuse_in_a_route_or_an_endpoint_is_refused_here_too() {
    let route = json!({"r": {"name": "r", "virtual_hosts": [
        {"name": "a", "domains": ["same"]}, {"name": "b", "domains": ["same"]}
    ]}});
    let refused = osm_testkit::validate_with_envoy(&bootstrap(&json!({"route": route})));
    assert!(refused.is_err_and(|words| words.contains("same")));
    let port = json!({"socket_address": {"address": "10.0.0.1", "port_value": 70000}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": port}}]}]);
    let endpoint = json!({"e": {"cluster_name": "e", "endpoints": endpoints}});
    assert!(osm_testkit::validate_with_envoy(&bootstrap(&json!({"endpoint": endpoint}))).is_err());
}

/// Clusters and listeners as they are; each route configuration in a listener of its own, and each load assignment in
/// a cluster of its own, because Envoy does not look at what it would fetch.
fn bootstrap(resources: &Value) -> Value {
    let of = |ty: &str| resources[ty].as_object().cloned().unwrap_or_default();
    let mut clusters: Vec<Value> = of("cluster").into_iter().map(|(_, cluster)| cluster).collect();
    clusters.push(json!({"name": "ads", "type": "STATIC", "load_assignment": {"cluster_name": "ads"}}));
    clusters.extend(of("endpoint").into_iter().map(|(name, mut assignment)| {
        let name = format!("endpoints of {name}");
        assignment["cluster_name"] = json!(name);
        json!({"name": name, "type": "STATIC", "load_assignment": assignment})
    }));
    let mut listeners: Vec<Value> = of("listener").into_iter().map(|(_, listener)| listener).collect();
    listeners.extend(of("route").into_iter().enumerate().map(|(index, (name, route))| {
        json!({
            "name": format!("routes of {name}"),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 20000 + index}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name, "route_config": route,
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
                    }]
                }
            }]}]
        })
    }));
    let ads = json!({
        "api_type": "DELTA_GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}]
    });
    let mut statics = json!({"clusters": clusters, "listeners": listeners});
    fetch_secrets_otherwise(&mut statics, &ads);
    json!({
        "node": {"id": "validate", "cluster": "validate"},
        "dynamic_resources": {"ads_config": ads},
        "static_resources": statics
    })
}

/// Envoy 1.40 crashes when it validates a static cluster whose secrets come over ADS, because ADS is not up yet. Over
/// a stream of their own they do as well; clusters that are fetched themselves never meet this.
fn fetch_secrets_otherwise(value: &mut Value, stream: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(source)) = map.get_mut("sds_config") {
                assert!(source.remove("ads").is_some(), "secrets come over ADS");
                source.insert("api_config_source".to_owned(), stream.clone());
            }
            map.values_mut().for_each(|value| fetch_secrets_otherwise(value, stream));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| fetch_secrets_otherwise(value, stream)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
