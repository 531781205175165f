use super::*;
use serde_json::json;

fn node(name: &str, version: &str, labels: serde_json::Value, taints: serde_json::Value) -> k8s::Node {
    let info = json!({
        "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
        "kubeletVersion": version, "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": ""});
    let node = json!({
        "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}, "status": {"nodeInfo": info}});
    serde_json::from_value(node).unwrap()
}

fn nodes() -> Vec<k8s::Node> {
    let gpu = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let sick = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    vec![
        node("new", "v1.31.2+k3s1", json!({"pool": "a", "disk": "9"}), json!([])),
        node("old", "v1.28.15", json!({"pool": "b"}), gpu),
        node("older", "v1.27.0-gke.1", json!({"pool": "c"}), sick),
        node("windows", "v1.20.0", json!({"kubernetes.io/os": "windows"}), json!([])),
    ]
}

/// The node that stands in the way, if any.
fn check(spec: serde_json::Value) -> Option<String> {
    let mut spec = spec;
    spec["containers"] = json!([]);
    match NativeSidecars::on_nodes(&serde_json::from_value(spec).unwrap(), &nodes()).unwrap() {
        NativeSidecars::Available => None,
        NativeSidecars::Missing { why } => why.split([' ', ',']).nth(1).map(str::to_owned),
    }
}

fn required(operator: &str, key: &str, values: &[&str]) -> serde_json::Value {
    let requirement = json!({"key": key, "operator": operator, "values": values});
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [requirement]}]});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

#[test]
fn the_oldest_kubelet_among_the_nodes_on_which_the_pod_may_land_counts() {
    let older = Some("older".to_owned());
    assert_eq!(check(json!({})), older);
    assert_eq!(check(json!({"nodeSelector": {"pool": "a"}})), None);
    assert_eq!(check(json!({"nodeName": "new"})), None);
    assert_eq!(check(required("In", "pool", &["a"])), None);
    assert_eq!(check(required("NotIn", "pool", &["a", "c"])), older, "old is tainted, so no node is left");
    assert_eq!(check(required("Exists", "disk", &[])), None);
    assert_eq!(check(required("Gt", "disk", &["5"])), None);
    assert_eq!(check(required("DoesNotExist", "disk", &[])), older);
}

#[test]
fn a_tainted_node_counts_for_whoever_tolerates_it() {
    let tolerations = |key: &str, operator: &str, value: Option<&str>| json!({"nodeSelector": {"pool": "b"}, "tolerations": [{"key": key, "operator": operator, "value": value}]});
    let old = Some("old".to_owned());
    assert_eq!(check(tolerations("gpu", "Exists", None)), old);
    assert_eq!(check(tolerations("gpu", "Equal", Some("yes"))), old);
    assert_eq!(check(tolerations("", "Exists", None)), old);
    assert_eq!(check(tolerations("gpu", "Equal", Some("no"))), Some("older".to_owned()), "none is left, so all count");
}

#[test]
fn without_nodes_the_api_server_answers() {
    assert_eq!(NativeSidecars::on_nodes(&k8s::PodSpec::default(), &[]), None);
    let by = |version: &str| NativeSidecars::by_server(version.parse().ok());
    assert_eq!(by("1.29+"), NativeSidecars::Available);
    assert_eq!(by("v2.0"), NativeSidecars::Available);
    assert!(matches!(by("v1.28.0"), NativeSidecars::Missing { why } if why.contains("1.28")));
    assert!(matches!(by("nonsense"), NativeSidecars::Missing { .. }));
}
