//! Keeps the authority's certificate in the two webhook configurations, so that the API server believes our own.
//!
//! The chart makes the configurations without it, and an upgrade or a person may take it out again.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_runtime::{Backoff, chance};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Between attempts that fail.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), limit: Duration::from_secs(30) };

/// How long one attempt may take.
const PATCH_LIMIT: Duration = Duration::from_secs(10);

/// A webhook configuration of either kind.
trait Configuration:
    kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
    + Clone
    + serde::de::DeserializeOwned
    + std::fmt::Debug
    + Send
    + 'static
{
    /// Its webhooks, by name.
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|webhook| (webhook.name.as_str(), &webhook.client_config)).collect()
    }
}

/// Keeps both right until `stop`.
pub(crate) async fn keep(
    client: Client,
    mutating: String,
    validating: String,
    bundle_pem: String,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = keep_one::<MutatingWebhookConfiguration>(&client, &mutating, &bundle_pem) => Ok(()),
        () = keep_one::<ValidatingWebhookConfiguration>(&client, &validating, &bundle_pem) => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

async fn keep_one<C: Configuration>(client: &Client, name: &str, bundle_pem: &str) {
    let api = Api::<C>::all(client.clone());
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api.clone(), named).default_backoff();
    let mut events = std::pin::pin!(events);
    let (mut is_there, mut is_missed) = (false, false);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => is_there = false,
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                (is_there, is_missed) = (true, false);
                set(&api, name, &found, bundle_pem).await;
            }
            Ok(watcher::Event::InitDone) if is_there || is_missed => {}
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => {
                is_missed = true;
                let kind = C::kind(&());
                tracing::warn!(
                    "there is no {kind} {name}, so the API server does not ask us; install the chart, or correct the \
                     flag that names it"
                );
            }
            Err(error) => tracing::warn!(name, %error, "a webhook configuration cannot be watched"),
        }
    }
}

/// Sets the bundle, and tries again until it is set. A change meanwhile only comes afterwards, and is set in turn.
async fn set<C: Configuration>(api: &Api<C>, name: &str, found: &C, bundle_pem: &str) {
    let Some(patch) = correction(found, bundle_pem) else { return };
    let (mut failures, mut rng) = (0, chance::generator());
    loop {
        let (how, what) = (PatchParams::default(), Patch::Strategic(&patch));
        let attempt = api.patch(name, &how, &what);
        match tokio::time::timeout(PATCH_LIMIT, attempt).await {
            Ok(Ok(_)) => {
                tracing::info!(name, "set the authority's certificate in a webhook configuration");
                return;
            }
            // It went meanwhile; the watch says so next.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
            Ok(Err(error)) => tracing::warn!(name, %error, "a webhook configuration cannot be mended"),
            Err(_) => tracing::warn!(name, "a webhook configuration cannot be mended in time"),
        }
        failures += 1;
        tokio::time::sleep(RETRY.delay(failures, &mut rng)).await;
    }
}

/// A strategic merge patch, if there is anything to correct.
fn correction(found: &impl Configuration, bundle_pem: &str) -> Option<serde_json::Value> {
    let wrong = |client: &WebhookClientConfig| {
        client.ca_bundle.as_ref().is_none_or(|ByteString(bundle)| bundle != bundle_pem.as_bytes())
    };
    let bundle = ByteString(bundle_pem.as_bytes().to_vec());
    let webhooks: Vec<_> = found
        .clients()
        .into_iter()
        .filter(|(_, client)| wrong(client))
        .map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": bundle } }))
        .collect();
    (!webhooks.is_empty()).then(|| json!({ "webhooks": webhooks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_is_corrected() {
        let webhooks = json!([
            {"name": "a", "clientConfig": {"caBundle": "UEVN"}},
            {"name": "b", "clientConfig": {"caBundle": "Zm9v"}},
            {"name": "c", "clientConfig": {}}]);
        for webhook in webhooks.as_array().unwrap() {
            let mut webhook = webhook.clone();
            webhook["sideEffects"] = "None".into();
            webhook["admissionReviewVersions"] = json!(["v1"]);
            let found = json!({"webhooks": [webhook]});
            let found: MutatingWebhookConfiguration = serde_json::from_value(found).unwrap();
            let corrected = correction(&found, "PEM").map(|patch| patch["webhooks"][0]["clientConfig"].clone());
            let expected = (webhook["name"] != "a").then(|| json!({"caBundle": "UEVN"}));
            assert_eq!(corrected, expected, "{webhook}");
        }
    }
}
