//! A controller of a cluster: an API server at the wire, pods with tokens that it vouches for.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use osm_controller::{Args, Config, Listeners, run};
use osm_pki::KeyAndCsr;
use osm_runtime::http::{Limits, get_tcp};
use osm_testkit::ApiServer;
use osm_xds::ResourceType;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::lab::{self, Ads, DEADLINE, SERVER_NAME, answer, until};

const SECRET: &str = "/api/v1/namespaces/osm-system/secrets/osm-ca-bundle";
const SETTINGS: &str = "/apis/config.openservicemesh.io/v1alpha2/namespaces/osm-system/meshconfigs/osm-mesh-config";

/// One replica of the controller.
struct Replica {
    server: Arc<ApiServer>,
    kubeconfig: PathBuf,
    ads: SocketAddr,
    http: SocketAddr,
    stop: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Replica {
    async fn start(server: &Arc<ApiServer>) -> Replica {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let kubeconfig = std::env::temp_dir().join(format!("osm-kubeconfig-{}-{number}", std::process::id()));
        fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        let any = "127.0.0.1:0";
        let path = kubeconfig.display().to_string();
        let args = ["osm-controller", "--kubernetes", "--kubeconfig", &path, "--ads-listen", any, "--http-listen", any];
        let args =
            Args::try_parse_from(args.into_iter().chain(["--debug-listen", any, "--webhook-listen", any])).unwrap();
        let config = Config::try_from(args).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let (ads, http) = (listeners.ads.local_addr().unwrap(), listeners.http.local_addr().unwrap());
        let stop = CancellationToken::new();
        let running = Some(tokio::spawn(run(config, listeners, stop.clone())));
        Replica { server: server.clone(), kubeconfig, ads, http, stop, running }
    }

    async fn ready(server: &Arc<ApiServer>) -> Replica {
        let replica = Replica::start(server).await;
        until("ready", async || (replica.readiness().await.0 == 200).then_some(())).await;
        replica
    }

    async fn readiness(&self) -> (u16, String) {
        let answer = get_tcp(self.http, "/health/ready", Limits::default()).await.unwrap();
        (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
    }

    async fn channel(&self) -> Channel {
        let root = Certificate::from_pem(root_in_secret(&self.server));
        let tls = ClientTlsConfig::new().ca_certificate(root).domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.ads)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn certificate(&self, token: &str) -> (u16, Value) {
        let question = json!({ "csr": KeyAndCsr::generate().unwrap().csr_pem }).to_string();
        let request = http::Request::post(format!("https://{SERVER_NAME}/v1/certificate"))
            .header("authorization", format!("Bearer {token}"))
            .body(tonic::body::Body::new(question))
            .unwrap();
        let (status, body) = answer(self.channel().await, request).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        let _ = fs::remove_file(&self.kubeconfig);
    }
}

fn root_in_secret(server: &ApiServer) -> Vec<u8> {
    use base64::Engine;
    let secret = server.get(SECRET).expect("the authority was made");
    base64::engine::general_purpose::STANDARD.decode(secret["data"]["ca.crt"].as_str().unwrap()).unwrap()
}

/// A cluster with one pod of the mesh.
async fn cluster() -> Arc<ApiServer> {
    let server = ApiServer::start().await;
    server.put(json!({ "apiVersion": "v1", "kind": "Namespace",
                       "metadata": { "name": "shop", "labels": { "openservicemesh.io/monitored-by": "osm" } } }));
    server.put(pod("client-1"));
    server.answer_review("good", review("client-1", "uid-of-client-1", "client"));
    Arc::new(server)
}

fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "shop", "annotations": { "openservicemesh.io/injected": "init: test" } },
            "spec": { "serviceAccountName": "client", "containers": [{ "name": "app", "image": "app" }] } })
}

fn review(pod: &str, uid: &str, account: &str) -> Value {
    json!({ "authenticated": true, "audiences": ["osm"], "user": {
        "username": format!("system:serviceaccount:shop:{account}"),
        "extra": { "authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid] } } })
}

#[tokio::test]
async fn a_pod_gets_the_identity_of_its_own_service_account_and_its_configuration() {
    let server = cluster().await;
    let replica = Replica::ready(&server).await;
    let (status, answer) = replica.certificate("good").await;
    assert_eq!(status, 200, "{answer}");
    let mut session = Ads::open(replica.channel().await, Some("good")).await.unwrap();
    session.until_complete().await;
}

#[tokio::test]
async fn tokens_of_nobody_and_of_other_pods_are_refused_with_what_is_wrong() {
    let server = cluster().await;
    server.answer_review("old pod", review("client-1", "another-uid", "client"));
    server.answer_review("other account", review("client-1", "uid-of-client-1", "web"));
    server.answer_review("no pod", review("client-9", "uid-of-client-9", "client"));
    let mut unbound = review("client-1", "uid-of-client-1", "client");
    unbound["user"]["extra"] = json!({});
    server.answer_review("unbound", unbound);
    let replica = Replica::ready(&server).await;
    let expected = [
        ("nonsense", 401, "not one of this cluster"),
        ("unbound", 401, "not bound to a pod"),
        ("old pod", 403, "bound to uid another-uid, but the pod of that name has uid-of-client-1"),
        ("other account", 403, "it runs as client, and the token is of web"),
        ("no pod", 403, "pod shop/client-9: there is no such pod"),
    ];
    // All at once, because each that names a pod is waited for a little.
    let checks = expected.map(async |(token, code, words)| {
        let channel = replica.channel().await;
        let ((status, answer), session) = tokio::join!(replica.certificate(token), Ads::open(channel, Some(token)));
        assert_eq!(status, code, "{token}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
        assert!(session.is_err(), "{token} opened a session");
    });
    futures::future::join_all(checks).await;
}

#[tokio::test]
async fn a_token_may_come_before_the_news_of_its_pod() {
    let server = cluster().await;
    let replica = Replica::ready(&server).await;
    server.answer_review("early", review("client-2", "uid-of-client-2", "client"));
    let (asked, ()) = tokio::join!(replica.certificate("early"), async {
        until("a review", async || (server.count_requests("/tokenreviews") > 0).then_some(())).await;
        server.put(pod("client-2"));
    });
    assert_eq!(asked.0, 200, "{}", asked.1);
}

#[tokio::test]
async fn while_the_api_server_is_away_sessions_go_on_and_pods_that_were_known_are_let_in() {
    let server = cluster().await;
    server.put(serde_saphyr::from_str(lab::PERMISSIVE).unwrap());
    server.put(pod("client-2"));
    server.answer_review("late", review("client-2", "uid-of-client-2", "client"));
    let replica = Replica::ready(&server).await;
    let mut session = Ads::open(replica.channel().await, Some("good")).await.unwrap();
    session.until_complete().await;
    let channel = replica.channel().await;
    server.stop().await;
    assert_eq!(replica.certificate("good").await.0, 200);
    let refused = Ads::open(channel, Some("late")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert_eq!(replica.readiness().await.0, 200);
    server.restart();
    until("let in", async || (replica.certificate("late").await.0 == 200).then_some(())).await;
    let objects = [lab::service("web", "web"), lab::pod("web-1", "web"), lab::endpoints("web", "web-1", &["10.0.0.7"])];
    objects.iter().for_each(|text| server.put(serde_saphyr::from_str(text).unwrap()));
    // The session that was open all the time hears of it.
    session.until_holds(ResourceType::Endpoint, "shop/web|80").await;
}

#[tokio::test]
async fn two_replicas_that_start_at_once_share_one_authority() {
    let server = cluster().await;
    let (first, second) = tokio::join!(Replica::ready(&server), Replica::ready(&server));
    let root = String::from_utf8(root_in_secret(&server)).unwrap();
    for replica in [&first, &second] {
        let (status, answer) = replica.certificate("good").await;
        assert_eq!((status, answer["trustBundle"].as_str()), (200, Some(root.as_str())));
    }
}

#[tokio::test]
async fn the_preset_becomes_settings_once_and_is_never_written_over_those_of_users() {
    let server = cluster().await;
    let preset = |value: bool| json!({ "traffic": { "enablePermissiveTrafficPolicyMode": value } });
    let config_map = |value: bool| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "preset-mesh-config", "namespace": "osm-system" },
                "data": { "preset-mesh-config.json": preset(value).to_string() } })
    };
    server.put(config_map(false));
    drop(Replica::ready(&server).await);
    assert_eq!(server.get(SETTINGS).unwrap()["spec"], preset(false));
    server.put(config_map(true));
    drop(Replica::ready(&server).await);
    assert_eq!(server.get(SETTINGS).unwrap()["spec"], preset(false));
}

#[tokio::test]
async fn it_is_ready_only_when_everything_was_read_and_an_authority_is_there() {
    let server = cluster().await;
    server.fail("pods", 503);
    server.fail("secrets", 403);
    let replica = Replica::start(&server).await;
    let pending = async |words: &str| {
        until(words, async || {
            let (status, body) = replica.readiness().await;
            (status == 503 && body == words).then_some(())
        })
        .await;
    };
    let (authority, listening) = ("authority loaded", "listening for sidecars");
    pending(&json!({ "pending": [authority, listening, "objects read and published"] }).to_string()).await;
    server.fail("secrets", 0);
    pending(r#"{"pending":["objects read and published"]}"#).await;
    server.fail("pods", 0);
    until("ready", async || (replica.readiness().await.0 == 200).then_some(())).await;
}

#[tokio::test]
async fn a_replica_that_stops_says_so_first_and_then_lets_its_sessions_go() {
    let server = cluster().await;
    let mut replica = Replica::ready(&server).await;
    let mut session = Ads::open(replica.channel().await, Some("good")).await.unwrap();
    session.until_complete().await;
    replica.stop.cancel();
    until("not ready", async || {
        (replica.readiness().await == (503, r#"{"pending":["stopping"]}"#.into())).then_some(())
    })
    .await;
    // Who is sent here still is served.
    assert_eq!(replica.certificate("good").await.0, 200);
    session.end().await;
    let ended = tokio::time::timeout(DEADLINE, replica.running.take().unwrap()).await;
    ended.expect("an end in time").unwrap().unwrap();
}

#[tokio::test]
async fn a_pod_that_waits_gets_an_event_with_the_reason_once() {
    let server = cluster().await;
    let mut held = pod("client-3");
    held["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into();
    held["spec"]["initContainers"] = json!([{ "name": "osm-init" }]);
    held["spec"]["containers"] = json!([{ "name": "envoy" }, { "name": "main" }]);
    let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } });
    held["status"]["initContainerStatuses"] = json!([
        { "name": "osm-init", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting }]);
    server.put(held);
    let replica = Replica::ready(&server).await;
    let events = || server.count_requests("POST /api/v1/namespaces/shop/events");
    until("an Event", async || (events() > 0).then_some(())).await;
    // Another replica says the same, and finds that it was said.
    let _second = Replica::ready(&server).await;
    until("the same Event again", async || (events() > 1).then_some(())).await;
    let events = server.list("/api/v1/namespaces/shop/events");
    let [event] = events.as_slice() else { panic!("not one Event: {events:?}") };
    assert_eq!(event["reason"], "ImageMissing");
    assert_eq!(event["involvedObject"]["name"], "client-3");
    let words = event["message"].as_str().unwrap();
    assert!(words.starts_with("the pod waits: the image of container osm-init cannot be had: ErrImagePull"), "{words}");
    drop(replica);
}
