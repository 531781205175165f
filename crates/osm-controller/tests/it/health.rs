//! Health, `/debug` and faults at the start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::lab::*;

#[tokio::test]
async fn not_ready_and_silent_before_the_manifests_are_read() {
    let lab = Lab::prepare(&[]).await;
    let listening = until("only the manifests are missing", async || {
        let (status, body) = lab.get("/health/ready").await;
        (body == r#"{"pending":["objects read and published"]}"#).then_some(status)
    });
    assert_eq!(listening.await, 503);
    assert_eq!(lab.get("/health/alive").await.0, 200);
    let mut client = lab.session("client", "client").await;
    assert_eq!(lab.debug("/debug/sessions").await[0]["isHeld"], true);
    let token = fs::read_to_string(lab.root.join("state/debug-token")).unwrap();
    let (status, body) = lab.debug_with("/debug/mesh", Some(&format!("Bearer {token}"))).await;
    assert_eq!(status, 503, "{body}");
    lab.put("client.yaml", &format!("{NAMESPACE}---{PERMISSIVE}---{}", pod("client", "client")));
    client.until_complete().await;
    lab.until_ready().await;
}

#[tokio::test]
async fn debug_shows_the_value_after_each_arrow_and_no_key() {
    let manifests = [NAMESPACE, PERMISSIVE, &service("web", "web"), &pod("web-1", "web"), "kind: Nonsense"].join("---");
    let lab = Lab::new(&[("all.yaml", &manifests)]).await;
    assert_eq!(lab.debug("/debug/world").await.as_array().unwrap().len(), 4);
    assert_eq!(lab.debug("/debug/mesh").await["services"]["shop/web"]["addresses"][0], "10.96.0.20");
    let problems = lab.debug("/debug/problems").await;
    assert!(problems[0]["text"].as_str().unwrap().contains("all.yaml"), "{problems}");
    let view = lab.debug("/debug/view?pod=shop/web-1").await;
    assert_eq!(view["class"]["identity"]["service_account"], "web");
    let resources = lab.debug("/debug/resources?pod=shop/web-1").await;
    assert_eq!(resources["listener"]["inbound-listener"]["name"], "inbound-listener");
    let everything = [view, resources, lab.debug("/debug").await, problems].map(|value| value.to_string()).concat();
    assert!(!everything.contains("PRIVATE KEY"));
    let token = fs::read_to_string(lab.root.join("state/debug-token")).unwrap();
    let (status, body) = lab.debug_with("/debug/view?pod=shop/nobody", Some(&format!("Bearer {token}"))).await;
    assert_eq!((status, body.contains("the mesh knows no pod shop/nobody")), (404, true), "{body}");
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_ask_for() {
    let lab = Lab::new(&[("all.yaml", &[NAMESPACE, PERMISSIVE, &pod("client", "client")].join("---"))]).await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    let (_, metrics) = lab.get("/metrics").await;
    for line in [
        "osm_proxy_connect_count 1\n",
        "osm_k8s_api_event_count{type=\"pod-updated\",namespace=\"shop\"} 1\n",
        "osm_resolve_seconds_count 1\n",
        "osm_push_seconds_count 1\n",
        "osm_problems 0\n",
        "osm_version_info{version=\"dev\",",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    drop(client);
    until("the session is gone", async || {
        lab.get("/metrics").await.1.contains("osm_proxy_connect_count 0\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_with_a_reason() {
    for (file, words) in [("token.key", "chmod 600"), ("state/ca.key", "chmod 600"), ("state/debug-token", "chmod 600")]
    {
        let mut lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
        fs::set_permissions(lab.root.join(file), Permissions::from_mode(0o644)).unwrap();
        lab.stop.cancel();
        (&mut lab.running).await.unwrap().unwrap();
        let mut again = lab.start_again().await;
        let error = format!("{:#}", (&mut again.running).await.unwrap().unwrap_err());
        assert!(error.contains(words) && error.contains(file), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_not_replaced_in_silence() {
    let mut lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    fs::remove_file(lab.root.join("state/ca.key")).unwrap();
    lab.stop.cancel();
    (&mut lab.running).await.unwrap().unwrap();
    let mut again = lab.start_again().await;
    let error = format!("{:#}", (&mut again.running).await.unwrap().unwrap_err());
    assert!(error.contains("restore the key"), "{error}");
}
