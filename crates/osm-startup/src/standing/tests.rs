use osm_api::k8s;
use serde_json::{Value, json};

use super::*;
use crate::{Phase, denied, phases, seen};

fn now() -> Timestamp {
    "2030-01-01T00:01:00Z".parse().unwrap()
}

/// A pod of the shape `init` or `native` of which nothing runs yet.
fn pod(shape: &str) -> Value {
    let (init, sidecar) = (json!({ "name": "osm-init" }), json!({ "name": "envoy", "restartPolicy": "Always" }));
    let (inits, apps) = match shape {
        "init" => (json!([init]), json!([{ "name": "envoy" }, { "name": "main" }])),
        _ => (json!([init, sidecar]), json!([{ "name": "main" }])),
    };
    json!({
        "metadata": {
            "name": "web", "namespace": "shop", "creationTimestamp": "2030-01-01T00:00:00Z",
            "annotations": { "openservicemesh.io/injected": format!("{shape}: restartPolicy Always") },
        },
        "spec": { "initContainers": inits, "containers": apps },
        "status": { "phase": "Pending", "conditions": [], "initContainerStatuses": [], "containerStatuses": [] },
    })
}

fn ended(name: &str, code: i32, reason: &str, message: &str) -> Value {
    let at = "2030-01-01T00:00:05Z";
    let ended = json!({ "exitCode": code, "reason": reason, "message": message, "startedAt": at, "finishedAt": at });
    status(name, json!({ "terminated": ended }))
}

fn running(name: &str) -> Value {
    status(name, json!({ "running": { "startedAt": "2030-01-01T00:00:06Z" } }))
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    status(name, json!({ "waiting": { "reason": reason, "message": message } }))
}

fn status(name: &str, state: Value) -> Value {
    json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state })
}

fn look(pod: &Value, agent: Option<&AgentReport>) -> Standing {
    let pod: k8s::Pod = serde_json::from_value(pod.clone()).unwrap();
    standing(&seen(&pod, &[], now()), agent, now())
}

/// What the pod waits for is this alone, with these words.
fn check(pod: &Value, agent: Option<&AgentReport>, reason: Reason, words: &str) {
    let standing = look(pod, agent);
    let found: Vec<&str> = standing.missing.iter().map(|missing| missing.reason.as_str()).collect();
    assert_eq!(found, [reason.code()], "{standing:?}");
    assert!(standing.missing[0].what.contains(words), "{standing:?}");
    assert!(!standing.missing[0].what.contains('\n'));
}

fn with(mut pod: Value, inits: &[Value], apps: &[Value]) -> Value {
    pod["status"]["initContainerStatuses"] = inits.into();
    pod["status"]["containerStatuses"] = apps.into();
    pod
}

#[test]
fn an_image_that_cannot_be_had_is_named_in_the_kubelets_words() {
    let missing = waiting("osm-init", "ErrImagePull", "pull access denied");
    check(
        &with(pod("init"), &[missing], &[]),
        None,
        Reason::ImageMissing,
        "osm-init cannot be had: ErrImagePull: pull",
    );
    let missing = waiting("envoy", "ImagePullBackOff", "");
    let init = ended("osm-init", 0, "Completed", "");
    check(&with(pod("init"), &[init], &[missing]), None, Reason::ImageMissing, "container envoy");
}

#[test]
fn osm_init_that_fails_is_quoted() {
    let said = "a line\nerror[init-failed]: the redirection could not be installed";
    let failed = with(pod("native"), &[ended("osm-init", 1, "Error", said)], &[]);
    check(&failed, None, Reason::InitFailed, "exit code 1: the redirection could not be installed");
    let silent = with(pod("native"), &[ended("osm-init", 137, "Error", "")], &[]);
    check(&silent, None, Reason::InitFailed, "exit code 137: it wrote nothing");
}

#[test]
fn a_sidecar_that_ends_says_why_in_its_last_words() {
    let init = ended("osm-init", 0, "Completed", "");
    let ends = [
        (ended("envoy", 137, "OOMKilled", ""), Reason::OutOfMemory, "reached its limit"),
        (ended("envoy", 1, "Error", "x\nerror[port-in-use]: port 15000 is taken"), Reason::PortInUse, "port 15000"),
        (ended("envoy", 1, "Error", "error[state-dir-unusable]: no space"), Reason::StateDirUnusable, "no space"),
        (ended("envoy", 139, "Error", "first\nlast\n"), Reason::SidecarEnded, "exit code 139: last"),
    ];
    for (end, reason, words) in ends {
        check(&with(pod("init"), std::slice::from_ref(&init), &[end]), None, reason, words);
    }
    let silent = with(pod("init"), &[init], &[running("envoy")]);
    check(&silent, None, Reason::SidecarSilent, "does not answer on port 15904");
}

#[test]
fn who_came_between_injection_and_the_kubelet_is_named() {
    let mut first = pod("native");
    first["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({ "name": "vault-agent-init" }));
    check(&first, None, Reason::OrderChanged, "container vault-agent-init comes before osm-init");
    assert_eq!(look(&first, None).missing[0].owner, "container vault-agent-init");
    let mut stripped = pod("native");
    stripped["spec"]["initContainers"][1].as_object_mut().unwrap().remove("restartPolicy");
    check(&stripped, None, Reason::OrderChanged, "took restartPolicy: Always from the sidecar");
    let mut without = pod("init");
    without["spec"]["initContainers"] = json!([]);
    check(&without, None, Reason::OrderChanged, "took osm-init out of the pod");
    // A pod of which no container has been seen yet was changed by nobody.
    let mut unseen = pod("init");
    unseen["spec"] = json!({ "initContainers": [], "containers": [] });
    assert!(look(&unseen, None).missing.iter().all(|missing| !missing.is(Reason::OrderChanged)));
    // A pod that runs nevertheless is not held, but its traffic may go past the mesh.
    first["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    let standing = look(&first, None);
    assert!(standing.missing.is_empty() && standing.warnings[0].is(Reason::OrderChanged), "{standing:?}");
}

#[test]
fn what_the_agent_says_counts_once_its_container_runs() {
    let up = with(pod("init"), &[ended("osm-init", 0, "Completed", "")], &[running("envoy"), running("main")]);
    let missing = Missing::new(Reason::TokenExpired, "the token expired", now());
    let held = AgentReport { missing: vec![missing.clone()], ..AgentReport::default() };
    assert_eq!(look(&up, Some(&held)).missing, [missing]);
    let open = AgentReport { is_programmed: true, ..AgentReport::default() };
    check(&up, Some(&open), Reason::ApplicationUnready, "container main");
}

#[test]
fn when_the_mesh_has_done_its_part_the_pods_own_is_named() {
    let mut own = pod("native");
    own["spec"]["initContainers"].as_array_mut().unwrap().push(json!({ "name": "migrate" }));
    let inits = [ended("osm-init", 0, "Completed", ""), running("envoy"), running("migrate")];
    let open = AgentReport { is_programmed: true, ..AgentReport::default() };
    check(&with(own, &inits, &[]), Some(&open), Reason::OwnInitContainer, "migrate has not ended");
}

#[test]
fn who_has_done_his_work_waits_for_nothing() {
    let apps = [running("envoy"), ended("main", 0, "Completed", "")];
    let done = with(pod("init"), &[ended("osm-init", 0, "Completed", "")], &apps);
    let open = AgentReport { is_programmed: true, ..AgentReport::default() };
    assert_eq!(look(&done, Some(&open)).missing, []);
}

#[test]
fn a_missing_hold_is_a_warning() {
    let said = "warning[hold-unavailable]: this kernel cannot match sockets";
    let mut up = with(pod("init"), &[ended("osm-init", 0, "Completed", said)], &[running("envoy")]);
    up["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    let standing = look(&up, None);
    assert!(standing.missing.is_empty() && standing.warnings[0].is(Reason::HoldUnavailable), "{standing:?}");
}

#[test]
fn a_pod_that_no_node_takes_says_so() {
    let mut pending = pod("init");
    pending["status"]["conditions"] =
        json!([{ "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" }]);
    check(&pending, None, Reason::Unscheduled, "0/3 nodes are available");
}

#[test]
fn pods_that_were_never_made_are_told_from_events() {
    let event = |message: &str, second: u32| -> k8s::Event {
        let at = format!("2030-01-01T00:00:{second:02}Z");
        let made = json!({ "metadata": {}, "involvedObject": {}, "reason": "FailedCreate", "message": message,
            "firstTimestamp": at, "lastTimestamp": at });
        serde_json::from_value(made).unwrap()
    };
    let refused = event("admission webhook \"osm-inject\" denied the request: user id 1500", 2);
    let unanswered = event("failed calling webhook \"osm-inject\": connection refused", 1);
    let found = denied([&unanswered]).unwrap();
    assert_eq!((found.reason, found.since), (Reason::WebhookUnavailable, "2030-01-01T00:00:01Z".parse().unwrap()));
    assert_eq!(denied([&refused, &unanswered]).unwrap().reason, Reason::Refused);
    let changed = event("admission webhook \"osm-order.k8s.io\" denied the request: container x comes before", 3);
    assert_eq!(denied([&refused, &changed]).unwrap().reason, Reason::OrderChanged);
    assert_eq!(denied([]), None);
}

#[test]
fn phases_are_the_lengths_between_steps() {
    let inits = [ended("osm-init", 0, "Completed", "")];
    let pod: k8s::Pod = serde_json::from_value(with(pod("init"), &inits, &[running("main")])).unwrap();
    let mut steps = seen(&pod, &[], now()).steps;
    let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let report = AgentReport {
        agent_started: Some(ms("2030-01-01T00:00:06Z")),
        identity_issued: Some(ms("2030-01-01T00:00:06.250Z")),
        first_resources: Some(ms("2030-01-01T00:00:06.300Z")),
        envoy_started: Some(ms("2030-01-01T00:00:06.010Z")),
        programmed: Some(ms("2030-01-01T00:00:06.500Z")),
        ..AgentReport::default()
    };
    steps.extend(report.steps());
    let found: Vec<_> = phases(&steps).into_iter().map(|(phase, length)| (phase.name(), length.as_millis())).collect();
    let expected = [
        (Phase::Init, 5000),
        (Phase::Agent, 1000),
        (Phase::Identity, 250),
        (Phase::Configuration, 300),
        (Phase::Envoy, 10),
        (Phase::Acknowledged, 200),
        (Phase::Gate, 6500),
        (Phase::Application, 6000),
    ];
    assert_eq!(found, expected.map(|(phase, ms)| (phase.name(), ms)));
}
