//! `osm startup` of a cluster, as far as the API server tells: no agent answers here.

use serde_json::{Value, json};

use crate::api::Api;
use crate::lab::said;

const PODS: &str = "/api/v1/namespaces/shop/pods";
const EVENTS: &str = "/api/v1/namespaces/shop/events";

fn startup(api: &Api, words: &str) -> Value {
    let output = api.osm(&format!("startup {words} --context lab -o json"));
    assert!(output.status.success(), "osm startup {words}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn pod(name: &str, init: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "creationTimestamp": "2030-01-01T00:00:00Z",
            "annotations": { "openservicemesh.io/injected": "init: restartPolicy Always" },
        },
        "spec": {
            "initContainers": [{ "name": "osm-init" }], "containers": [{ "name": "envoy" }, { "name": "main" }],
        },
        "status": { "phase": "Pending", "initContainerStatuses": [
            { "name": "osm-init", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": init }] },
    })
}

#[test]
fn without_an_agent_status_and_events_say_why() {
    let api = Api::start();
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
    api.put(&format!("{PODS}/web"), pod("web", waiting));
    let found = startup(&api, "web -n shop");
    assert_eq!(found["pod"], "shop/web");
    assert_eq!(found["missing"][0]["reason"], "image-missing");
    assert_eq!(found["missing"][0]["owner"], "node");
    assert_eq!(found["steps"][0]["kind"], "created");
    let text = said(&api.osm("startup shop/web --context lab"));
    assert!(text.contains("waits for: the image of container osm-init cannot be had: ImagePullBackOff"), "{text}");
}

#[test]
fn a_pod_that_was_never_made_is_looked_for_among_the_events() {
    let api = Api::start();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e", "namespace": "shop" },
        "involvedObject": { "kind": "ReplicaSet", "name": "web-5d4f" }, "reason": "FailedCreate",
        "message": "failed calling webhook \"osm-inject.k8s.io\": connection refused",
        "firstTimestamp": "2030-01-01T00:00:00Z", "lastTimestamp": "2030-01-01T00:00:09Z",
    });
    api.put(&format!("{EVENTS}/e"), event);
    for name in ["web-5d4f-abcde", "web-5d4f", "web"] {
        let found = startup(&api, &format!("shop/{name}"));
        assert_eq!(found["missing"][0]["reason"], "webhook-unavailable", "{name}");
    }
    let output = api.osm("startup shop/other --context lab");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("there is no pod shop/other\n\nhint: see what there is: kubectl get pods -n shop"));
}

#[test]
fn all_pods_of_the_mesh_are_listed_those_that_wait_first() {
    let api = Api::start();
    api.put(&format!("{PODS}/held"), pod("held", json!({ "waiting": { "reason": "PodInitializing" } })));
    let mut ready = pod("ready", json!({ "terminated": { "exitCode": 0, "finishedAt": "2030-01-01T00:00:02Z" } }));
    ready["status"]["conditions"] =
        json!([{ "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:04Z" }]);
    api.put(&format!("{PODS}/ready"), ready);
    let mut plain = pod("plain", json!({}));
    plain["metadata"]["annotations"] = json!({});
    api.put(&format!("{PODS}/plain"), plain);
    let all = startup(&api, "--all -n shop");
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["pod"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop/held", "shop/ready"]);
    let phases = &all[1]["phases"];
    assert!(phases.as_array().unwrap().contains(&json!({ "phase": "init", "ms": 2000 })), "{phases}");
    assert!(phases.as_array().unwrap().contains(&json!({ "phase": "ready", "ms": 4000 })), "{phases}");
}

#[test]
fn a_pod_or_all_of_them() {
    let api = Api::start();
    for words in ["startup", "startup web --all"] {
        assert_eq!(api.osm(words).status.code(), Some(2), "{words}");
    }
}
