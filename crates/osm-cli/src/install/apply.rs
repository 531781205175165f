//! The objects, one after the other, into the cluster.

use serde_json::Value;

use super::Plan;
use crate::cluster::{Applied, Cluster, described};
use crate::render;

/// Applies everything: the namespace if it is not there, CRDs, then the rest.
pub(crate) async fn apply(cluster: &Cluster, plan: &Plan, is_verbose: bool) -> anyhow::Result<()> {
    // One that is there may have labels of its own, such as other Pod Security.
    if cluster.namespace(&plan.namespace).await?.is_none() {
        one(cluster, &plan.namespace_object, is_verbose).await?;
        render::say(&format!("namespace {} created", plan.namespace));
    }
    for crd in &plan.rendered.crds {
        one(cluster, crd, is_verbose).await?;
    }
    super::wait::until_established(cluster, plan).await?;
    render::say(&format!("{} kinds of objects are known to the cluster", plan.rendered.crds.len()));
    for object in &plan.rendered.objects {
        one(cluster, object, is_verbose).await?;
    }
    render::say(&format!("{} objects applied", plan.rendered.objects.len()));
    Ok(())
}

async fn one(cluster: &Cluster, object: &Value, is_verbose: bool) -> anyhow::Result<()> {
    let word = match cluster.apply(object).await? {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
    };
    if is_verbose {
        render::say(&format!("  {} {word}", described(object)));
    }
    Ok(())
}
