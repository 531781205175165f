//! Waiting for the cluster, with a word whenever what is waited for changes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DynamicObject, ListParams, LogParams};
use osm_local::Failure;
use osm_runtime::clock;
use serde_json::Value;
use tokio::time::sleep;

use super::Plan;
use super::readiness::{Observed, Verdict, judge};
use crate::cluster::{Cluster, Failing, kind_of, name_of};
use crate::render;

const INTERVAL: Duration = Duration::from_millis(500);
/// The API server takes about a second to serve a new kind.
const ESTABLISHED_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until the cluster serves the kinds that the plan brings.
pub(super) async fn until_established(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + ESTABLISHED_TIMEOUT;
    for crd in &plan.rendered.crds {
        let (_, name) = name_of(crd);
        let api = cluster.api(kind_of(crd)?, "");
        loop {
            let found = api.get(name).await;
            let found = found.map_err(|error| cluster.place.failing(&format!("reading CRD {name}"), &error))?;
            let (is_established, problem) = established(&found);
            if is_established {
                break;
            }
            if clock::monotonic() > deadline {
                let message = format!("the cluster does not take in CRD {name}: {problem}");
                return Err(Failure { message, hint: format!("see why: kubectl describe crd {name}") }.into());
            }
            sleep(INTERVAL).await;
        }
    }
    Ok(())
}

/// Whether a CRD is served, and otherwise what the cluster says of it.
fn established(crd: &DynamicObject) -> (bool, String) {
    let conditions = crd.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_established = conditions.iter().any(|it| it["type"] == "Established" && it["status"] == "True");
    let refused = conditions.iter().find(|it| it["status"] == "False");
    let said = refused.and_then(|it| it["message"].as_str()).unwrap_or("it says nothing yet");
    (is_established, said.to_owned())
}

/// Waits until the mesh is ready, or cannot get ready.
pub(crate) async fn until_ready(cluster: &Cluster, plan: &Plan, timeout: Duration) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + timeout;
    let mut last_said = String::new();
    loop {
        match judge(&observe(cluster, plan).await?) {
            Verdict::Ready => return Ok(()),
            Verdict::Failed(failure) => return Err(failure.into()),
            Verdict::Waiting(what) if clock::monotonic() > deadline => {
                let message = format!("the mesh is not ready after {} s: waiting {what}", timeout.as_secs());
                let hint =
                    format!("see what its controller says: kubectl logs -n {} deploy/osm-controller", plan.namespace);
                return Err(Failure { message, hint }.into());
            }
            Verdict::Waiting(what) => {
                if what != last_said {
                    render::say(&format!("waiting {what}"));
                    last_said = what;
                }
                sleep(INTERVAL).await;
            }
        }
    }
}

async fn observe(cluster: &Cluster, plan: &Plan) -> anyhow::Result<Observed> {
    let failing = |error: kube::Error| cluster.place.failing("looking how the controller is", &error);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &plan.namespace);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &plan.namespace);
    let labels = format!("app=osm-controller,app.kubernetes.io/instance={}", plan.mesh);
    let deployment = deployments.get_opt("osm-controller").await.map_err(failing)?;
    let of_controller = pods.list(&ListParams::default().labels(&labels)).await.map_err(failing)?.items;
    let mut webhooks_without_authority = Vec::new();
    for webhook in plan.webhooks() {
        let (_, name) = name_of(webhook);
        let found = cluster.api(kind_of(webhook)?, "").get_opt(name).await.map_err(failing)?;
        if !found.is_some_and(|found| is_trusted(&found.data)) {
            webhooks_without_authority.push(name.to_owned());
        }
    }
    let last_words = last_words(&pods, &of_controller).await;
    Ok(Observed { deployment, pods: of_controller, webhooks_without_authority, last_words })
}

fn is_trusted(configuration: &Value) -> bool {
    let webhooks = configuration["webhooks"].as_array();
    webhooks.is_some_and(|all| {
        all.iter().all(|it| it["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty()))
    })
}

/// What the first container that ended said last. Without it the verdict is the same, so that no failure counts.
async fn last_words(api: &Api<Pod>, pods: &[Pod]) -> String {
    let has_ended = |pod: &&Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().any(|container| container.restart_count > 0 && !container.ready)
    };
    let Some(name) = pods.iter().find(has_ended).and_then(|pod| pod.metadata.name.as_deref()) else {
        return String::new();
    };
    let parameters = LogParams { previous: true, tail_lines: Some(3), ..LogParams::default() };
    api.logs(name, &parameters).await.unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_trusted_when_every_webhook_of_it_is() {
        let webhook = |bundle: &str| json!({"clientConfig": {"caBundle": bundle}});
        assert!(is_trusted(&json!({"webhooks": [webhook("Zm9v")]})));
        assert!(!is_trusted(&json!({"webhooks": [webhook("Zm9v"), webhook("")]})));
        assert!(!is_trusted(&json!({"webhooks": [{"clientConfig": {}}]})));
        assert!(!is_trusted(&json!({})));
    }
}
