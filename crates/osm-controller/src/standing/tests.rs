use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2030-01-01T00:01:00Z".parse().unwrap()
}

fn pod(inits: Value, status: Value) -> k8s::Pod {
    let pod = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": "2030-01-01T00:00:00Z",
            "annotations": { "openservicemesh.io/injected": "init: restartPolicy Always" },
        },
        "spec": { "initContainers": inits, "containers": [{ "name": "envoy" }, { "name": "main" }] },
        "status": status,
    });
    serde_json::from_value(pod).unwrap()
}

fn plain() -> k8s::Pod {
    pod(json!([{ "name": "osm-init" }]), json!({}))
}

fn held(verdict: &Verdict) -> (&'static str, bool, String) {
    let condition = condition(verdict).unwrap();
    (condition.reason, condition.is_true, condition.message)
}

#[test]
fn what_the_agent_says_counts() {
    let missing = Missing::new(Reason::ControllerOutOfSync, "not read yet", now());
    let report = AgentReport { missing: vec![missing], ..AgentReport::default() };
    let (reason, is_true, message) = held(&verdict(&plain(), Some(&report), None, now()));
    assert_eq!((reason, is_true), ("ControllerOutOfSync", false));
    assert!(message.starts_with("not read yet (controller-out-of-sync, from osm-controller, since "), "{message}");
    let open = AgentReport { is_programmed: true, ..AgentReport::default() };
    assert_eq!(verdict(&plain(), Some(&open), None, now()), Verdict::Open);
}

#[test]
fn of_a_pod_without_a_word_its_status_tells_and_without_that_nothing_is_said() {
    assert_eq!(verdict(&plain(), None, None, now()), Verdict::Unknown);
    let state = json!({ "waiting": { "reason": "ErrImagePull", "message": "denied" } });
    let status = json!({ "initContainerStatuses": [
        { "name": "osm-init", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state }] });
    let read = pod(json!([{ "name": "osm-init" }]), status);
    assert_eq!(held(&verdict(&plain(), None, Some(&read), now())).0, "ImageMissing");
}

#[test]
fn another_webhook_that_came_between_is_named_whatever_the_agent_says() {
    let changed = pod(json!([{ "name": "vault" }, { "name": "osm-init" }]), json!({}));
    let open = AgentReport { is_programmed: true, ..AgentReport::default() };
    for report in [None, Some(&open)] {
        let (reason, _, message) = held(&verdict(&changed, report, None, now()));
        assert_eq!(reason, "OrderChanged");
        assert!(message.contains("from container vault"), "{message}");
    }
}

#[test]
fn what_another_replica_heard_is_left_alone() {
    let written = |status: &str, reason: &str| {
        let condition = json!({ "type": CONDITION, "status": status, "reason": reason });
        is_left_alone(&pod(json!([]), json!({ "conditions": [condition] })))
    };
    assert!(!is_left_alone(&plain()));
    assert!(written("True", "Programmed"));
    assert!(written("False", "TokenExpired"));
    assert!(!written("False", "SidecarPending"));
}

#[test]
fn an_event_has_one_name_for_each_pod_and_reason() {
    let name = |reason| event(&plain(), &Missing::new(reason, "x", now()), now()).metadata.name.unwrap();
    assert_eq!(name(Reason::TokenExpired), name(Reason::TokenExpired));
    assert_ne!(name(Reason::TokenExpired), name(Reason::TokenRefused));
    let event = event(&plain(), &Missing::new(Reason::TokenExpired, "x", now()), now());
    assert_eq!(event.reason.as_deref(), Some("TokenExpired"));
    assert!(event.message.unwrap().starts_with("the pod waits: x (token-expired, "));
}
