//! Patterns that are let through, put before the real Envoy: it must read each of them, because it refuses a whole
//! port's rules for one that it cannot read.

use osm_api::Object;
use osm_model::Admitted;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::laws::{mesh, mesh_config, namespace, read};

/// What patterns are made of; half of it is known to one of the two engines only, or means something else to each.
const PARTS: [&str; 74] = [
    "a",
    "Z",
    "9",
    "/",
    "-",
    "_",
    " ",
    "#",
    "~",
    "&&",
    "--",
    "~~",
    "<",
    ">",
    "=",
    "!",
    ":",
    ",",
    "\"",
    "'",
    "é",
    ".",
    "*",
    "+",
    "?",
    "|",
    "^",
    "$",
    "(",
    ")",
    "(?:",
    "(?i)",
    "(?i:",
    "(?s)",
    "(?U)",
    "(?m)",
    "(?-i)",
    "(?x)",
    "(?R)",
    "(?u)",
    "(?P<n>",
    "(?<m>",
    "[",
    "]",
    "[^",
    "[a-",
    "[--",
    "[^]-",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "[[:word:]]",
    "{",
    "}",
    "{2}",
    "{2,}",
    "{2,3}",
    "{,3}",
    "{ 2 }",
    "{1000}",
    "{1001}",
    "\\",
    "\\d",
    "\\W",
    "\\s",
    "\\b",
    "\\B",
    "\\A",
    "\\z",
    "\\Z",
    "\\Q",
    "\\x41",
    "\\x{41}",
    "\\pL",
    "\\C",
];

/// Patterns for one Envoy; it is started for each lot.
const LOT: usize = 4000;

const LOTS: usize = 3;

/// The patterns of those that are let through.
fn let_through(written: &[String]) -> Vec<String> {
    let matches: Vec<Value> = written
        .iter()
        .enumerate()
        .map(|(index, path)| json!({"name": format!("m{index}"), "pathRegex": path}))
        .collect();
    let account = json!({"kind": "ServiceAccount", "name": "default", "namespace": "shop"});
    let metadata = json!({"name": "web", "namespace": "shop"});
    let pod = json!({"name": "web", "namespace": "shop", "annotations": {"openservicemesh.io/injected": "init"}});
    let rules = json!([{"kind": "HTTPRouteGroup", "name": "web"}]);
    let spec = json!({"destination": account, "sources": [account], "rules": rules});
    let mesh = mesh(&[
        namespace("shop", "openservicemesh.io/monitored-by"),
        mesh_config(false),
        Object::Pod(read(json!({"metadata": pod, "spec": {"containers": []}}))),
        Object::HttpRouteGroup(read(json!({"metadata": metadata, "spec": {"matches": matches}}))),
        Object::TrafficTarget(read(json!({"metadata": metadata, "spec": spec}))),
    ]);
    let class = mesh.classes().into_iter().next().expect("there is a pod");
    let Admitted::Granted(grants) = mesh.view(class).admitted else { panic!("not everybody is admitted") };
    let requests = grants.values().flat_map(|grant| &grant.http);
    requests.filter_map(|requests| requests.path.as_ref()).map(|path| path.0.clone()).collect()
}

#[test]
fn envoy_reads_every_pattern_that_is_let_through() {
    let mut runner = TestRunner::default();
    let pattern = prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..7);
    for _ in 0..LOTS {
        let mut written: Vec<String> =
            (0..LOT).map(|_| pattern.new_tree(&mut runner).expect("it always makes one").current().concat()).collect();
        // The largest that are let through.
        written.extend(
            ["(?i)[^a]{1000}", "(?:.{20}){50}", "[^/é]{1000}", "(\\W{2}){499}", "a{1000}b{999}"].map(str::to_owned),
        );
        let through = let_through(&written);
        assert!(
            through.len() > LOT / 20,
            "{} of {} let through: too few to say anything",
            through.len(),
            written.len()
        );
        if let Err(words) = osm_testkit::validate_with_envoy(&bootstrap(&through)) {
            panic!("{words}");
        }
    }
}

#[test]
fn envoy_would_refuse_what_is_not_let_through_for_being_unknown_to_it() {
    for pattern in ["a**", "(?x) a", "(?=a)", "a{1001}", "(a{100}){11}", "\\u0041", "[a[b"] {
        assert_eq!(let_through(&[pattern.to_owned()]), Vec::<String>::new());
        let refused = osm_testkit::validate_with_envoy(&bootstrap(&[pattern.to_owned()]));
        assert!(refused.is_err(), "Envoy reads {pattern} by now");
    }
}

fn bootstrap(patterns: &[String]) -> Value {
    let routes: Vec<Value> = patterns
        .iter()
        .map(|regex| json!({"match": {"safe_regex": {"regex": regex}}, "direct_response": {"status": 200}}))
        .collect();
    let extension = "type.googleapis.com/envoy.extensions.filters";
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": format!("{extension}.http.router.v3.Router")}});
    let manager = json!({
        "@type": format!("{extension}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "patterns",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [router],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let listener = json!({"name": "patterns", "address": address, "filter_chains": [{"filters": [filter]}]});
    // As in the bootstrap of sidecars: Envoy by itself refuses programs of more than 100 instructions.
    let limit = json!({"re2.max_program_size.error_level": 32768});
    json!({
        "node": {"id": "patterns", "cluster": "patterns"},
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": limit}]},
        "static_resources": {"listeners": [listener]},
    })
}
