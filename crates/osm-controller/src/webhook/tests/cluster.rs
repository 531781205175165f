//! With an API server to ask back: one that is written here and answers what each test needs.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Json, Response};
use http::{Method, StatusCode};
use osm_testkit::eventually;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the API server holds, and what it was sent.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<Value>>,
    sent: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl Server {
    async fn start(objects: Value) -> (Server, Client) {
        let server = Server { objects: Arc::new(Mutex::new(objects)), ..Server::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, Client::try_from(kube::Config::new(uri)).unwrap())
    }

    fn sent(&self, method: &Method) -> Vec<(String, Value)> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|(found, ..)| found == method).map(|(_, path, body)| (path.clone(), body.clone())).collect()
    }
}

/// Answers with the object of the path; a watch of it goes on for ever.
async fn answer(State(server): State<Server>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    server.sent.lock().unwrap().push((parts.method.clone(), format!("{path}?{query}"), body));
    if query.contains("watch=true") {
        return Body::from_stream(futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>())
            .into_response();
    }
    match server.objects.lock().unwrap().get(&path) {
        Some(found) => Json(found.clone()).into_response(),
        None => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"});
            (StatusCode::NOT_FOUND, Json(status)).into_response()
        }
    }
}

fn namespace(annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "shop", "labels": {"openservicemesh.io/monitored-by": "osm"}, "annotations": annotations}})
}

#[tokio::test]
async fn a_namespace_that_is_newer_than_the_world_is_asked_for() {
    let enabled = json!({"openservicemesh.io/sidecar-injection": "enabled"});
    let (server, client) = Server::start(json!({"/api/v1/namespaces/shop": namespace(enabled)})).await;
    let stale = SHOP.replace("enabled", "disabled");
    for world in ["", &stale] {
        let (webhooks, _) = webhooks(Some(world), Some(client.clone()));
        let answer = webhooks.mutate(question(&review("shop", pod()))).await;
        assert!(answer.patch.is_some(), "{answer:?}");
    }
    assert_eq!(server.sent(&Method::GET).len(), 2);
    let (webhooks, _) = webhooks(Some(SHOP), Some(client));
    assert!(webhooks.mutate(question(&review("shop", pod()))).await.patch.is_some());
    assert_eq!(server.sent(&Method::GET).len(), 2, "nobody is asked about what is known");
}

#[tokio::test]
async fn a_namespace_that_nobody_can_tell_of_gets_no_bare_pod() {
    let (_, client) = Server::start(json!({})).await;
    let (webhooks, _) = webhooks(Some(""), Some(client));
    let refusal = webhooks.mutate(question(&review("shop", pod()))).await.refusal.unwrap();
    assert_eq!(refusal.code, 503);
    assert!(refusal.message.contains("there is no namespace shop"), "{}", refusal.message);
}

#[tokio::test]
async fn a_pod_that_cannot_be_meshed_is_told_of_once_and_never_in_a_rehearsal() {
    let (server, client) = Server::start(json!({"/api/v1/namespaces/shop": namespace(json!({
        "openservicemesh.io/sidecar-injection": "enabled"}))}))
    .await;
    let (webhooks, queue) = webhooks(Some(SHOP), Some(client.clone()));
    let stop = CancellationToken::new();
    let writing = tokio::spawn(notice::run(client, queue, stop.clone()));
    let mut on_host = pod();
    on_host["spec"]["hostNetwork"] = true.into();
    let mut rehearsal = review("shop", on_host.clone());
    rehearsal["request"]["dryRun"] = true.into();
    for review in [rehearsal, review("shop", on_host.clone()), review("shop", on_host)] {
        let answer = webhooks.clone().mutate(question(&review)).await;
        assert!(answer.refusal.is_none() && answer.patch.is_none());
        assert!(answer.warnings[0].contains("hostNetwork"), "{answer:?}");
    }
    drop(webhooks);
    let found = async {
        while server.sent(&Method::POST).is_empty() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap();
    stop.cancel();
    writing.await.unwrap().unwrap();
    let sent = server.sent(&Method::POST);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].1["involvedObject"]["name"], "shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bundle_is_set_in_both_configurations() {
    let base = "/apis/admissionregistration.k8s.io/v1";
    let list = |kind: &str, bundle: Value| {
        let webhook =
            json!({"name": "w", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": bundle});
        let object = json!({"metadata": {"name": "osm", "resourceVersion": "1"}, "webhooks": [webhook]});
        json!({"kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": [object]})
    };
    let mutating = list("MutatingWebhookConfigurationList", json!({}));
    let validating = list("ValidatingWebhookConfigurationList", json!({"caBundle": "Zm9v"}));
    let patched = json!({"metadata": {"name": "osm"}});
    let (server, client) = Server::start(json!({
        format!("{base}/mutatingwebhookconfigurations"): mutating,
        format!("{base}/validatingwebhookconfigurations"): validating,
        format!("{base}/mutatingwebhookconfigurations/osm"): patched,
        format!("{base}/validatingwebhookconfigurations/osm"): patched,
    }))
    .await;
    let stop = CancellationToken::new();
    let name = || "osm".to_owned();
    let keeping = tokio::spawn(bundle::keep(client, name(), name(), "PEM".to_owned(), stop.clone()));
    tokio::task::block_in_place(|| eventually(DEADLINE, || server.sent(&Method::PATCH).len() >= 2));
    stop.cancel();
    keeping.await.unwrap().unwrap();
    for (path, patch) in server.sent(&Method::PATCH) {
        let expected = json!({"webhooks": [{"name": "w", "clientConfig": {"caBundle": "UEVN"}}]});
        assert_eq!(patch, expected, "{path}");
    }
    let watched = server.sent(&Method::GET);
    assert!(watched.iter().all(|(path, _)| path.contains("fieldSelector=metadata.name%3Dosm")), "{watched:?}");
}
