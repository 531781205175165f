//! The source and a real client, against an API server at the wire.

use std::time::Instant;

use osm_api::{ObjectKey, World};
use osm_testkit::ApiServer;
use serde_json::json;
use tokio::sync::watch::Sender as WatchSender;
use tokio::time::timeout;

use super::*;

/// Nothing here takes long; a busy machine may.
const DEADLINE: Duration = Duration::from_secs(30);

/// A source, and what it said.
struct Lab {
    server: ApiServer,
    events: Receiver<Event>,
    world: World,
    problems: std::collections::BTreeMap<String, String>,
    in_sync: usize,
    stop: CancellationToken,
}

impl Lab {
    async fn new(prepare: impl FnOnce(&ApiServer)) -> Lab {
        let server = ApiServer::start().await;
        prepare(&server);
        let (sender, events) = mpsc::channel(4);
        let stop = CancellationToken::new();
        tokio::spawn(run(client_of(&server), "osm-system".to_owned(), sender, stop.clone()));
        let (world, problems) = (World::default(), std::collections::BTreeMap::new());
        Lab { server, events, world, problems, in_sync: 0, stop }
    }

    /// Takes in events until the condition holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Lab) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let left = DEADLINE.saturating_sub(start.elapsed());
            let event = timeout(left, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("{what} never came: {:?} {:?}", self.keys(), self.problems));
            match event.expect("the source goes on") {
                Event::Changes(changes) => changes.into_iter().for_each(|change| drop(self.world.apply(change))),
                Event::Problems { file, problems } => {
                    self.problems.remove(&file);
                    if let Some(problem) = problems.first() {
                        self.problems.insert(file, problem.to_string());
                    }
                }
                Event::InSync => self.in_sync += 1,
            }
        }
    }

    async fn until_in_sync(&mut self) {
        self.until("sync", |lab| lab.in_sync == 1).await;
    }

    async fn until_keys(&mut self, keys: &[&str]) {
        self.until(&format!("{keys:?}"), |lab| lab.keys() == keys).await;
    }

    fn keys(&self) -> Vec<String> {
        self.world.keys().iter().map(ObjectKey::to_string).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn client_of(server: &ApiServer) -> Client {
    connect(Config::new(server.url().parse().unwrap())).unwrap()
}

fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop",
            "managedFields": [{ "manager": "kubectl" }] },
            "spec": { "containers": [{ "name": "app", "image": "app" }] }, "status": { "phase": "Running" } })
}

fn service(name: &str, port: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ports": [{ "port": port }] } })
}

fn grant(name: &str) -> Value {
    let subject = |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": "shop" });
    json!({ "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "destination": subject("web"), "sources": [subject("client")], "rules": [] } })
}

fn settings(namespace: &str) -> Value {
    json!({ "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "name": "osm-mesh-config", "namespace": namespace }, "spec": {} })
}

const WEB: &str = "/api/v1/namespaces/shop/services/web";

#[tokio::test]
async fn everything_is_said_before_it_is_in_sync_and_changes_follow() {
    let mut lab = Lab::new(|server| {
        server.put(settings("osm-system"));
        server.put(settings("elsewhere"));
        server.put(service("web", json!(80)));
        server.put(grant("g"));
    })
    .await;
    lab.until_in_sync().await;
    assert_eq!(lab.keys(), ["MeshConfig osm-system/osm-mesh-config", "TrafficTarget shop/g", "Service shop/web"]);
    lab.server.put(service("db", json!(5432)));
    lab.server.delete(WEB);
    lab.until_keys(&["MeshConfig osm-system/osm-mesh-config", "TrafficTarget shop/g", "Service shop/db"]).await;
    lab.server.put(service("db", json!(5433)));
    let key = ObjectKey::new(Kind::Service, "shop", "db");
    lab.until("the new port", |lab| format!("{:?}", lab.world.get(&key)).contains("5433")).await;
    assert!(lab.problems.is_empty(), "{:?}", lab.problems);
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let pods = 2 * 500 + 1;
    let mut lab = Lab::new(|server| (0..pods).for_each(|index| server.put(pod(&format!("p-{index}"))))).await;
    lab.until_in_sync().await;
    assert_eq!(lab.world.pods.len(), pods);
    assert_eq!(lab.server.count_requests("GET /api/v1/pods?&limit=500"), 3);
}

#[tokio::test]
async fn what_happened_while_the_server_was_away_is_found_by_a_list_and_nothing_is_withdrawn_meanwhile() {
    let mut lab = Lab::new(|server| ["a", "b"].into_iter().for_each(|name| server.put(service(name, json!(80))))).await;
    lab.until_in_sync().await;
    lab.server.stop().await;
    lab.until("a problem", |lab| lab.problems.contains_key("cluster: Service")).await;
    assert_eq!(lab.keys(), ["Service shop/a", "Service shop/b"]);
    lab.server.delete("/api/v1/namespaces/shop/services/a");
    lab.server.put(service("c", json!(80)));
    // The watches would go on from a version that is no longer kept.
    lab.server.compact();
    lab.server.restart();
    lab.until_keys(&["Service shop/b", "Service shop/c"]).await;
    lab.until("no problem", |lab| lab.problems.is_empty()).await;
    assert_eq!(lab.in_sync, 1);
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_without_a_list() {
    let mut lab = Lab::new(|server| server.put(service("a", json!(80)))).await;
    lab.until_in_sync().await;
    let lists = lab.server.count_requests("GET /api/v1/services?&limit");
    for name in ["b", "c", "d"] {
        lab.server.cut_watches();
        lab.server.put(service(name, json!(80)));
        lab.until(name, |lab| lab.keys().contains(&format!("Service shop/{name}"))).await;
    }
    assert_eq!(lab.server.count_requests("GET /api/v1/services?&limit"), lists);
}

#[tokio::test]
async fn an_object_that_cannot_be_understood_is_named_and_the_rest_goes_on() {
    let mut lab = Lab::new(|server| {
        server.put(service("bad", json!("eighty")));
        server.put(service("good", json!(80)));
    })
    .await;
    lab.until_in_sync().await;
    assert_eq!(lab.keys(), ["Service shop/good"]);
    let problem = &lab.problems["cluster: Service shop/bad"];
    assert!(problem.starts_with("Service shop/bad: spec.ports[0].port: "), "{problem}");
    lab.server.put(service("bad", json!(80)));
    lab.until_keys(&["Service shop/bad", "Service shop/good"]).await;
    lab.until("no problem", |lab| lab.problems.is_empty()).await;
}

#[tokio::test]
async fn a_kind_that_is_not_installed_holds_up_nothing_and_is_found_when_it_comes() {
    let mut lab = Lab::new(|server| {
        server.fail("traffictargets", 404);
        server.put(service("a", json!(80)));
    })
    .await;
    lab.until_in_sync().await;
    assert_eq!(lab.keys(), ["Service shop/a"]);
    let problem = &lab.problems["cluster: TrafficTarget"];
    assert!(problem.contains("does not serve access.smi-spec.io/v1alpha3 traffictargets; install"), "{problem}");
    lab.server.put(grant("g"));
    lab.server.fail("traffictargets", 0);
    lab.until_keys(&["TrafficTarget shop/g", "Service shop/a"]).await;
    lab.until("no problem", |lab| lab.problems.is_empty()).await;
}

#[tokio::test]
async fn what_may_not_be_read_is_never_taken_for_empty() {
    let mut lab = Lab::new(|server| server.fail("pods", 403)).await;
    lab.until("a problem", |lab| lab.problems.contains_key("cluster: Pod")).await;
    assert!(lab.problems["cluster: Pod"].contains("let the controller's service account get, list and watch"));
    assert_eq!(lab.in_sync, 0);
    lab.server.fail("pods", 0);
    lab.until_in_sync().await;
}

#[tokio::test]
async fn nodes_are_told_without_what_changes_all_the_time() {
    let node = |version: &str, beat: &str| {
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "labels": { "zone": "a" } },
                "status": { "nodeInfo": { "kubeletVersion": version, "architecture": "", "bootID": "",
                    "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "",
                    "operatingSystem": "", "osImage": "", "systemUUID": "" },
                    "conditions": [{ "type": "Ready", "status": "True", "message": beat }] } })
    };
    let server = ApiServer::start().await;
    server.put(node("v1.35.0", "first"));
    let sender = WatchSender::new(None);
    let mut told = sender.subscribe();
    let stop = CancellationToken::new();
    tokio::spawn(nodes(client_of(&server), sender, stop.clone()));
    let version = |nodes: &Option<Vec<osm_api::k8s::Node>>| {
        let info = nodes.as_ref()?.first()?.status.as_ref()?.node_info.as_ref()?;
        Some(info.kubelet_version.clone())
    };
    let first = timeout(DEADLINE, told.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    assert_eq!(version(&first), Some("v1.35.0".to_owned()));
    server.put(node("v1.35.0", "second"));
    server.put(node("v1.36.0", "third"));
    timeout(DEADLINE, told.changed()).await.unwrap().unwrap();
    assert_eq!(version(&told.borrow()), Some("v1.36.0".to_owned()));
    stop.cancel();
}
