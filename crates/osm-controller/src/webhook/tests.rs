//! The webhooks as the API server meets them: over TLS, with a World, and with an API server to ask back.

mod answers;
mod cluster;
mod https;

use osm_api::{Change, ManifestSet};
use osm_runtime::clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::control::Core;

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {openservicemesh.io/monitored-by: osm}
  annotations: {openservicemesh.io/sidecar-injection: enabled}
";

/// Webhooks that have read these manifests; without any they are not in sync.
fn webhooks(manifests: Option<&str>, client: Option<Client>) -> (Arc<Webhooks>, mpsc::Receiver<Notice>) {
    let authority = Authority::generate(clock::now(), "cluster.local").unwrap();
    let options = ResolveOptions::default();
    let proxies = Proxies::default();
    if let Some(manifests) = manifests {
        publish(&proxies, manifests);
    }
    let (notices, queue) = mpsc::channel(notice::QUEUE);
    let webhooks = Webhooks {
        proxies,
        base: base_policy(&config(), &options, &authority),
        options,
        client,
        nodes: Nodes::channel().1,
        notices,
        checks: Arc::new(Semaphore::new(CHECKS_MAX)),
        metrics: AdmissionMetrics::register(&mut prometheus_client::registry::Registry::default()),
    };
    (Arc::new(webhooks), queue)
}

fn publish(proxies: &Proxies, manifests: &str) {
    let mut core = Core::new(ResolveOptions::default());
    let changes: Vec<Change> = ManifestSet::default().put("world.yaml", manifests).changes;
    core.apply(changes.into_iter().map(without_origin).collect());
    proxies.publish(core.publish());
}

/// What a cluster holds was written down nowhere.
fn without_origin(change: Change) -> Change {
    match change {
        Change::Apply(object, _) => Change::Apply(object, None),
        Change::Delete(key) => Change::Delete(key),
    }
}

fn config() -> WebhookConfig {
    let args = WebhookArgs {
        webhook_listen: None,
        mutating_webhook_name: None,
        validating_webhook_name: None,
        sidecar_image: "sidecar".to_owned(),
        init_image: None,
        image_pull_policy: "Never".to_owned(),
    };
    WebhookConfig::new(args, "osm", true)
}

/// A review that asks to make this pod in this namespace.
fn review(namespace: &str, pod: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": namespace, "object": pod, "oldObject": null, "dryRun": false}})
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app", "image": "web"}]}})
}

fn question(review: &Value) -> Request {
    review::read(review.to_string().as_bytes()).unwrap()
}
