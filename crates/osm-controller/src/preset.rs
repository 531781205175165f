//! The mesh's first settings: a ConfigMap that the installation brings, made into a MeshConfig if there is none. What
//! users wrote since is never overwritten.

use std::time::Duration;

use anyhow::Context;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, Error};
use osm_api::{Kind, MESH_CONFIG_NAME, k8s};
use osm_runtime::{Backoff, chance};
use serde_json::json;

/// What the ConfigMap is called.
const CONFIG_MAP: &str = "preset-mesh-config";

/// The key of the settings in it: the `spec` of a MeshConfig, as JSON.
const KEY: &str = "preset-mesh-config.json";

/// Between attempts.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), limit: Duration::from_secs(60) };

/// The rest of the start waits for so many attempts: the mesh must not come up with settings that nobody chose.
const WAITED_FOR: u32 = 5;

/// What one attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// There are settings.
    Present,
    /// There are none, and no preset.
    NoPreset,
    /// They were made from the preset.
    Made,
}

/// Tries some times, and says whether it is settled.
pub(crate) async fn settle(client: &Client, osm_namespace: &str) -> bool {
    attempt_until(client, osm_namespace, WAITED_FOR).await
}

/// Tries until it is settled.
pub(crate) async fn settle_in_the_end(client: &Client, osm_namespace: &str) {
    attempt_until(client, osm_namespace, u32::MAX).await;
}

async fn attempt_until(client: &Client, osm_namespace: &str, attempts: u32) -> bool {
    let mut rng = chance::generator();
    for failures in 0..attempts {
        tokio::time::sleep(RETRY.delay(failures, &mut rng)).await;
        match attempt(client, osm_namespace).await {
            Ok(settled) => {
                tracing::info!(?settled, "the mesh's settings");
                return true;
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), failures, "no settings made from the preset; tried again");
            }
        }
    }
    false
}

async fn attempt(client: &Client, osm_namespace: &str) -> anyhow::Result<Settled> {
    let (group, version) = Kind::MeshConfig.api_version().split_once('/').expect("it has a group");
    let kind = GroupVersionKind::gvk(group, version, Kind::MeshConfig.name());
    let resource = ApiResource::from_gvk_with_plural(&kind, "meshconfigs");
    let settings: Api<DynamicObject> = Api::namespaced_with(client.clone(), osm_namespace, &resource);
    if settings.get_opt(MESH_CONFIG_NAME).await.context("reading the MeshConfig")?.is_some() {
        return Ok(Settled::Present);
    }
    let config_maps: Api<k8s::ConfigMap> = Api::namespaced(client.clone(), osm_namespace);
    let preset =
        config_maps.get_opt(CONFIG_MAP).await.with_context(|| format!("reading the ConfigMap {CONFIG_MAP}"))?;
    let Some(text) = preset.and_then(|preset| preset.data?.remove(KEY)) else {
        return Ok(Settled::NoPreset);
    };
    let spec: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("reading {KEY} of the ConfigMap {CONFIG_MAP} as JSON"))?;
    let made = DynamicObject::new(MESH_CONFIG_NAME, &resource).data(json!({ "spec": spec }));
    match settings.create(&PostParams::default(), &made).await {
        Ok(_) => Ok(Settled::Made),
        Err(Error::Api(status)) if status.is_already_exists() => Ok(Settled::Present),
        Err(error) => Err(error).context("creating the MeshConfig from the preset"),
    }
}
