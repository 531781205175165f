//! Sessions: who is told what, and when nothing is said.

use osm_xds::ResourceType;
use tonic::Code;

use crate::lab::*;

async fn shop() -> Lab {
    Lab::new(&[
        ("namespace.yaml", NAMESPACE),
        ("config.yaml", PERMISSIVE),
        ("web.yaml", &service("web", "web")),
        ("web-1.yaml", &pod("web-1", "web")),
        ("web-endpoints.yaml", &endpoints("web", "web-1", &["10.244.0.7"])),
        ("client.yaml", &pod("client", "client")),
    ])
    .await
}

#[tokio::test]
async fn a_known_pod_is_told_everything_at_once_clusters_first() {
    let lab = shop().await;
    let mut client = lab.session("client", "client").await;
    assert_eq!(client.next().await.0, ResourceType::Cluster);
    client.until_complete().await;
    assert!(client.names(ResourceType::Cluster).contains(&"shop/web|80"), "{:?}", client.held);
    assert_eq!(client.names(ResourceType::Endpoint), ["shop/web|80"]);
    assert_eq!(client.names(ResourceType::Listener), ["inbound-listener", "outbound-listener"]);
    assert_eq!(client.names(ResourceType::Route), ["rds-outbound.80"]);
    let mut web = lab.session("web-1", "web").await;
    web.until_complete().await;
    assert!(web.names(ResourceType::Cluster).contains(&"local|8080"), "{:?}", web.held);
}

#[tokio::test]
async fn an_unknown_pod_is_held_until_its_manifest_appears() {
    let lab = shop().await;
    let mut late = lab.session("late", "client").await;
    let sessions = lab.debug("/debug/sessions").await;
    assert_eq!((&sessions[0]["pod"], &sessions[0]["isHeld"]), (&"shop/late".into(), &true.into()));
    lab.put("late.yaml", &pod("late", "client"));
    late.until_complete().await;
    until("the session is settled", async || {
        let sessions = lab.debug("/debug/sessions").await;
        (sessions[0]["isSettled"] == true && sessions[0]["isHeld"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_told_nothing_if_its_token_names_another_identity_than_its_manifest() {
    let lab = shop().await;
    let mut impostor = lab.session("web-1", "client").await;
    assert_eq!(lab.debug("/debug/sessions").await[0]["isHeld"], true);
    lab.put("web-1.yaml", &pod("web-1", "client"));
    impostor.until_complete().await;
}

#[tokio::test]
async fn only_what_changed_is_said_and_only_to_those_it_concerns() {
    let lab = shop().await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    // Nothing of this concerns anybody: another mesh's namespace, a service there, an account, a comment.
    lab.put("other.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n");
    lab.put("other-web.yaml", &service("web", "web").replace("namespace: shop", "namespace: other"));
    lab.put("account.yaml", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x, namespace: shop}\n");
    lab.put("web.yaml", &format!("# a comment\n{}", service("web", "web")));
    until("the change is published", async || {
        let world = lab.debug("/debug/world").await.to_string();
        (world.contains(r#""namespace":"other""#) && world.contains("ServiceAccount")).then_some(())
    })
    .await;
    // So this is the next that is said, and all of it.
    lab.put("web-endpoints.yaml", &endpoints("web", "web-1", &["10.244.0.7", "10.244.0.8"]));
    assert_eq!(client.next().await, (ResourceType::Endpoint, vec!["shop/web|80".to_owned()]));
}

#[tokio::test]
async fn a_pod_that_moves_to_another_class_keeps_its_session() {
    let lab = shop().await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    assert!(!client.names(ResourceType::Cluster).contains(&"local|8080"));
    lab.put("new.yaml", &service("new", "client"));
    client.until_holds(ResourceType::Cluster, "local|8080").await;
    client.until_holds(ResourceType::Route, "rds-inbound.8080").await;
}

#[tokio::test]
async fn a_pod_that_goes_keeps_what_it_was_told() {
    let lab = shop().await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    std::fs::remove_file(lab.root.join("objects/client.yaml")).unwrap();
    until("the pod is gone", async || {
        (!lab.debug("/debug/world").await.to_string().contains(r#""name":"client""#)).then_some(())
    })
    .await;
    let before = client.held.clone();
    lab.put("client.yaml", &pod("client", "client"));
    lab.put("web-endpoints.yaml", &endpoints("web", "web-1", &["10.244.0.9"]));
    assert_eq!(client.next().await.0, ResourceType::Endpoint);
    assert_eq!(client.held[&ResourceType::Cluster], before[&ResourceType::Cluster]);
}

#[tokio::test]
async fn what_a_proxy_rejects_is_shown_in_its_words_and_not_sent_again() {
    let lab = shop().await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    client.rejection = Some("no such thing as port 81");
    lab.put("web.yaml", &service("web", "web").replace("port: 80,", "port: 81,"));
    client.until_holds(ResourceType::Cluster, "shop/web|81").await;
    let shown = until("the rejection is shown", async || {
        let sessions = lab.debug("/debug/sessions").await.to_string();
        sessions.contains("no such thing as port 81").then_some(sessions)
    })
    .await;
    assert!(shown.contains("shop/web|81"), "{shown}");
    let (_, metrics) = lab.get("/metrics").await;
    assert!(metrics.contains(r#"osm_rejections_total{resource_type="cluster"}"#), "{metrics}");
    // A restart of the mesh's heart is not needed to go on: the next change is sent and accepted.
    client.rejection = None;
    lab.put("web.yaml", &service("web", "web").replace("port: 80,", "port: 82,"));
    client.until_holds(ResourceType::Cluster, "shop/web|82").await;
}

#[tokio::test]
async fn a_controller_that_stops_ends_its_sessions_and_itself() {
    let mut lab = shop().await;
    let mut client = lab.session("client", "client").await;
    client.until_complete().await;
    lab.stop.cancel();
    assert_eq!(client.end().await.unwrap().code(), Code::Unavailable);
    tokio::time::timeout(DEADLINE, &mut lab.running).await.expect("an end in time").unwrap().unwrap();
}
