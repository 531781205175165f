//! The real Envoy behind our service: what it accepts takes effect, whatever changes, and traffic never breaks.

use std::sync::Arc;

use osm_ads::{
    Node,
    client::{self, Client, Connection, ConnectionState},
};
use osm_pki::{Authority, issue_server};
use osm_xds::{Replica, ResourceType, SessionStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    envoy_lab::{EnvoyServer, Lab, get, server, until},
    envoy_resources::{ClusterPlan, LISTENER, ListenerPlan, Plan, Secrets},
    host::{Serving, TOKEN, channel, within},
};

#[tokio::test]
async fn what_changes_takes_effect_and_what_is_removed_goes() {
    let mut plan = Plan::to("one", server("one").await);
    let lab = Lab::start(&plan);
    lab.server.settled(&plan.resources()).await;
    let address = lab.listener().await;
    assert_eq!(get(address).await, (200, "one".into()));

    // A changed cluster warms, and its acceptance is held back, until its load assignment comes once more.
    plan.clusters.get_mut("one").unwrap().connect_timeout_s = 2;
    lab.server.apply(&plan).await;
    let active = lab.configs("ClustersConfigDump", "dynamic_active_clusters").await;
    assert_eq!(active.len(), 1);
    assert_eq!(active[0]["cluster"]["connect_timeout"], "2s");
    let warming = lab.configs("ClustersConfigDump", "dynamic_warming_clusters").await;
    assert!(warming.is_empty(), "{warming:?}");
    assert_eq!(get(address).await, (200, "one".into()));

    plan.clusters.get_mut("one").unwrap().port = server("moved").await;
    lab.server.apply(&plan).await;
    assert_eq!(get(address).await, (200, "moved".into()));

    lab.server.apply(&Plan::default()).await;
    // What is left of the listener only drains.
    let listeners = lab.configs("ListenersConfigDump", "dynamic_listeners").await;
    assert!(listeners.iter().all(|listener| listener.get("active_state").is_none()), "{listeners:?}");
    assert!(lab.configs("ClustersConfigDump", "dynamic_active_clusters").await.is_empty());
    assert!(!lab.log().contains("rejected"), "{}", lab.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_routes_move_between_clusters() {
    let ports = [server("one").await, server("two").await];
    let lab = Lab::start(&Plan::to("one", ports[0]));
    lab.server.settled(&Plan::to("one", ports[0]).resources()).await;
    let address = lab.listener().await;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let requests = tokio::spawn(async move {
        let mut answers = Vec::new();
        while !stopped.is_cancelled() {
            answers.push(get(address).await);
        }
        answers
    });
    for round in 0..20 {
        let (name, port) = if round % 2 == 0 { ("two", ports[1]) } else { ("one", ports[0]) };
        let plan = Plan::to(name, port);
        lab.server.apply(&plan).await;
        until(async || (get(address).await.1 == name).then_some(())).await;
        assert_eq!(lab.configs("ClustersConfigDump", "dynamic_active_clusters").await.len(), 1, "the old one goes");
    }
    stop.cancel();
    let answers = requests.await.unwrap();
    let failed: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), answers.len());
}

#[tokio::test]
async fn a_rejected_listener_leaves_the_one_before_it_and_is_told_in_envoys_words() {
    let port = server("one").await;
    let mut lab = Lab::start(&Plan::to("one", port));
    lab.server.settled(&Plan::to("one", port).resources()).await;
    let address = lab.listener().await;
    let moved = server("two").await;
    let bad = Plan { listener: Some(ListenerPlan::Bad), ..Plan::to("two", moved) };
    lab.server.tell(&bad);
    let (ty, rejection) = lab.server.rejection().await;
    assert_eq!((ty, rejection.names), (ResourceType::Listener, vec![LISTENER.to_owned()]));
    assert!(rejection.message.contains("osm.NoSuchFilter"), "{}", rejection.message);
    until(async || (get(address).await == (200, "two".into())).then_some(())).await;
    let good = Plan { listener: Some(ListenerPlan::Good("second")), ..Plan::to("two", moved) };
    let status = lab.server.apply(&good).await;
    assert_eq!(status.rejected().next(), None);
    let refused = status.of(ResourceType::Listener).refused;
    assert_eq!(refused, 1, "a rejected version is sent once");
}

#[tokio::test]
async fn a_cluster_warms_until_its_certificates_are_there() {
    let port = server("one").await;
    let mut plan = Plan::to("one", port);
    plan.clusters.insert("secure", ClusterPlan { connect_timeout_s: 1, port, is_tls: true });
    let mut lab = Lab::start(&Plan::to("one", port));
    lab.server.settled(&Plan::to("one", port).resources()).await;
    lab.server.tell(&plan);
    // Envoy would take an answer without a secret for leave to go without it, so there is none until it exists.
    let status = within(lab.server.status.wait_for(waits_for_secrets_only)).await.unwrap().clone();
    assert!(status.of(ResourceType::Cluster).in_flight, "{status:#?}");
    let warming = lab.configs("ClustersConfigDump", "dynamic_warming_clusters").await;
    assert_eq!(warming.len(), 1, "{status:#?}");
    plan.secrets = Some(secrets());
    lab.server.apply(&plan).await;
    // A changed cluster that has its secrets needs only its load assignment again.
    plan.clusters.get_mut("secure").unwrap().connect_timeout_s = 2;
    lab.server.apply(&plan).await;
    let active = lab.configs("ClustersConfigDump", "dynamic_active_clusters").await;
    assert_eq!(active.len(), 2);
    plan.secrets = Some(secrets());
    let status = lab.server.apply(&plan).await;
    assert_eq!(status.rejected().next(), None);
}

#[tokio::test]
async fn an_envoy_that_loses_its_server_serves_on_and_is_brought_up_to_date_by_the_next() {
    let port = server("one").await;
    let mut plan = Plan::to("one", port);
    let mut lab = Lab::start(&plan);
    lab.server.settled(&plan.resources()).await;
    let address = lab.listener().await;

    // The connection is lost while a cluster warms for want of a secret.
    plan.clusters.get_mut("one").unwrap().connect_timeout_s = 3;
    plan.clusters.insert("secure", ClusterPlan { connect_timeout_s: 1, port, is_tls: true });
    lab.server.tell(&plan);
    within(lab.server.status.wait_for(waits_for_secrets_only)).await.unwrap();
    assert_eq!(lab.configs("ClustersConfigDump", "dynamic_warming_clusters").await.len(), 1);
    let socket = lab.socket();
    let next = EnvoyServer::start(&socket.with_extension("none"), None);
    std::mem::replace(&mut lab.server, next).stop().await;
    assert_eq!(get(address).await, (200, "one".into()));

    plan.secrets = Some(secrets());
    plan.route_to = Some("two");
    plan.clusters.remove("one");
    plan.clusters.insert("two", ClusterPlan { connect_timeout_s: 1, port: server("two").await, is_tls: false });
    lab.server = EnvoyServer::start(&socket, Some(plan.resources()));
    lab.server.settled(&plan.resources()).await;
    assert_eq!(get(address).await, (200, "two".into()));
    let active = lab.configs("ClustersConfigDump", "dynamic_active_clusters").await;
    let mut names: Vec<&str> = active.iter().map(|cluster| cluster["cluster"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["secure", "two"]);
}

#[tokio::test]
async fn an_envoy_behind_an_agent_follows_the_controller() {
    let ports = [server("one").await, server("two").await];
    let mut controller = Serving::start(Some(Plan::to("one", ports[0]).resources())).await;
    let (resources, copy) = watch::channel(None);
    let mut status = None;
    let lab = Lab::start_beside(|socket| {
        let server = EnvoyServer::start_with(socket, watch::channel(None).0, copy);
        status = Some(server.status.clone());
        server
    });
    let address = controller.address;
    let now = osm_runtime::clock::now();
    let agent = Client {
        node: Node::default(),
        connect: move || {
            let connection = Connection { channel: channel(address), authorization: Some(TOKEN.parse().unwrap()) };
            std::future::ready(Ok::<_, String>(connection))
        },
        replica: Replica::new(),
        resources,
        proxy: status.unwrap(),
        notice: watch::channel(osm_ads::Notice::default()).0,
        state: watch::channel(ConnectionState::Connecting { since: now }).0,
    };
    let stop = CancellationToken::new();
    tokio::spawn(client::run(agent, stop.clone()));
    controller.status(SessionStatus::is_settled).await;
    let listener = lab.listener().await;
    assert_eq!(get(listener).await, (200, "one".into()));
    for round in 0..6 {
        let (name, port) = if round % 2 == 0 { ("two", ports[1]) } else { ("one", ports[0]) };
        let resources = Plan::to(name, port).resources();
        controller.tell(resources.clone());
        let is_current = |status: &SessionStatus| {
            status.is_settled() && status.of(ResourceType::Route).version == resources.version_of(ResourceType::Route)
        };
        controller.status(is_current).await;
        assert_eq!(get(listener).await, (200, name.into()));
    }
    let bad = Plan { listener: Some(ListenerPlan::Bad), ..Plan::to("one", ports[0]) };
    controller.tell(bad.resources());
    let status = controller.status(|status| status.rejected().next().is_some()).await;
    let (ty, rejection) = status.rejected().next().unwrap();
    assert_eq!((ty, rejection.names.as_slice()), (ResourceType::Listener, [LISTENER.to_owned()].as_slice()));
    assert!(rejection.message.contains("osm.NoSuchFilter"), "{}", rejection.message);
    stop.cancel();
}

fn waits_for_secrets_only(status: &SessionStatus) -> bool {
    let endpoints = status.of(ResourceType::Endpoint);
    status.of(ResourceType::Secret).waiting == ["root-cert", "service-cert"]
        && endpoints.is_idle()
        && endpoints.unrequested.is_empty()
}

fn secrets() -> Arc<Secrets> {
    let now = osm_runtime::clock::now();
    let authority = Authority::generate(now, "cluster.local").unwrap();
    let names = ["client.shop.cluster.local".to_owned()];
    let server =
        issue_server(&authority, &names, std::time::Duration::from_secs(3600).try_into().unwrap(), now).unwrap();
    Arc::new(Secrets {
        chain_pem: server.leaf.chain_pem,
        key_pem: server.key_pem.to_string(),
        root_pem: authority.cert_pem().to_owned(),
    })
}
