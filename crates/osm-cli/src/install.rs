//! `osm install`: the chart's objects into the cluster, and then the mesh is ready or what is missing is said.

mod apply;
mod plan;
mod preflight;
mod readiness;
mod wait;

use std::process::ExitCode;

use osm_local::Failure;

pub(crate) use apply::apply;
pub(crate) use plan::{Plan, Wanted};
pub(crate) use wait::until_ready;

use crate::arguments::{Install, Target};
use crate::cluster::Cluster;
use crate::{meshes, render, uninstall};

/// Installs a mesh.
pub(crate) async fn run(arguments: Install, before: Target) -> anyhow::Result<ExitCode> {
    let target = arguments.target.or(before);
    let wanted = Wanted {
        mesh: &arguments.mesh_name,
        namespace: target.osm_namespace(),
        enforce_single_mesh: Some(arguments.enforce_single_mesh),
    };
    let plan = Plan::of(&wanted, &arguments.chosen)?;
    plan.warnings.iter().for_each(|warning| render::warning(warning));
    if arguments.chosen.dry_run {
        render::page(plan.manifests()?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::of(&target).await?;
    preflight::no_other_mesh(&meshes::list(&cluster).await?, &plan)?;
    preflight::namespace_stays(&cluster, &plan.namespace).await?;
    preflight::rights(&cluster, &plan).await?;
    let installed = async {
        apply(&cluster, &plan, arguments.verbose).await?;
        until_ready(&cluster, &plan, arguments.chosen.timeout).await
    };
    if let Err(error) = installed.await {
        if arguments.atomic {
            render::say("taking everything away again");
            let timeout = arguments.chosen.timeout;
            uninstall::everything(&cluster, &plan.mesh, &plan.namespace, &plan.ca_bundle_secret_name, timeout).await?;
            return Err(error);
        }
        let failure = error.downcast_ref::<Failure>();
        let (message, hint) = match failure {
            Some(failure) => (failure.message.clone(), failure.hint.clone()),
            None => (format!("{error:#}"), String::new()),
        };
        let mesh = &plan.mesh;
        let retry = format!(
            "what is there stays: when the reason is gone the mesh gets ready by itself, or osm mesh upgrade --mesh-name \
             {mesh}; to take it away: osm uninstall mesh -f --mesh-name {mesh}"
        );
        let hint = if hint.is_empty() { retry } else { format!("{hint}\n      {retry}") };
        return Err(Failure { message, hint }.into());
    }
    render::line(&format!(
        "OSM installed successfully in namespace [{}] with mesh name [{}]",
        plan.namespace, plan.mesh
    ));
    render::say(&format!("\nadd namespaces to it: osm namespace add NAMESPACE --mesh-name {}", plan.mesh));
    Ok(ExitCode::SUCCESS)
}
