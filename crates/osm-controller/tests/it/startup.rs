//! Reports of agents: what only the controller knows is told back, and starts are measured.

use osm_pki::{Claims, mint};
use osm_runtime::http::{Limits, get_tcp};
use serde_json::{Value, json};

use crate::lab::*;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  creationTimestamp: 2030-01-01T00:00:00Z
  annotations: {openservicemesh.io/injected: 'init: x'}
spec: {serviceAccountName: web, containers: [{name: a}]}
";

const OUTSIDE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

async fn told(lab: &Lab, pod: &str, account: &str, report: &Value) -> Value {
    let (status, answer) = lab.post("/v1/startup", Some(&lab.token(pod, account)), &report.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["obstacle"].clone()
}

#[tokio::test]
async fn an_agent_is_told_what_only_the_controller_knows() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE), ("pod.yaml", POD)]).await;
    let held = json!({ "isProgrammed": false, "missing": [] });
    assert_eq!(told(&lab, "web-1", "web", &held).await, Value::Null);
    for (pod, account, reason) in [("web-1", "other", "service-account-mismatch"), ("web-2", "web", "pod-unknown")] {
        assert_eq!(told(&lab, pod, account, &held).await["reason"], reason);
    }
    let lab = Lab::new(&[("namespace.yaml", OUTSIDE), ("pod.yaml", POD)]).await;
    assert_eq!(told(&lab, "web-1", "web", &held).await["reason"], "namespace-not-in-mesh");
}

#[tokio::test]
async fn who_may_not_report_is_told_the_reason_as_everywhere() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE), ("pod.yaml", POD)]).await;
    let expired = Claims { exp: jiff::Timestamp::UNIX_EPOCH, ..lab.claims("web-1", "web") };
    let expired = mint(&lab.key, &expired);
    for path in ["/v1/startup", "/v1/certificate"] {
        let (status, answer) = lab.post(path, Some(&expired), "{}").await;
        assert_eq!((status, &answer["reason"]), (401, &json!("token-expired")), "{path}");
    }
    let (status, answer) = lab.post("/v1/startup", Some(&lab.token("web-1", "web")), "1").await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn a_start_is_measured_once_by_phase_and_without_a_name() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE), ("pod.yaml", POD)]).await;
    let ms = "2030-01-01T00:00:01Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let report = json!({ "isProgrammed": true, "agentStarted": ms, "identityIssued": ms + 40, "programmed": ms + 500 });
    for _ in 0..3 {
        assert_eq!(told(&lab, "web-1", "web", &report).await, Value::Null);
    }
    let page = get_tcp(lab.http, "/metrics", Limits::default()).await.unwrap();
    let page = String::from_utf8_lossy(page.body()).into_owned();
    for line in ["osm_startup_seconds_count{phase=\"gate\"} 1", "osm_startup_seconds_sum{phase=\"gate\"} 1.5"] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert!(page.contains("osm_startup_seconds_sum{phase=\"identity\"} 0.04"), "{page}");
    assert!(!page.contains("web-1"), "{page}");
}
