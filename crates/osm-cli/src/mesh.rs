//! `osm mesh`: which meshes there are, and bringing one to another version or other values.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::arguments::{ListMeshes, Mesh as Command, Target, Upgrade};
use crate::cluster::{Cluster, OF_CHART, name_of};
use crate::install::{Plan, Wanted, apply, until_ready};
use crate::{meshes, render};

/// Runs one subcommand.
pub(crate) async fn run(command: Command, before: Target) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(arguments) => list(arguments, before).await,
        Command::Upgrade(arguments) => upgrade(arguments, before).await,
    }
}

async fn list(arguments: ListMeshes, before: Target) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::of(&arguments.target.or(before)).await?;
    render::meshes(&meshes::list(&cluster).await?, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

async fn upgrade(arguments: Upgrade, before: Target) -> anyhow::Result<ExitCode> {
    let target = arguments.target.or(before);
    let name = &arguments.mesh.mesh_name;
    let plan_in =
        |namespace: &str| Plan::of(&Wanted { mesh: name, namespace, enforce_single_mesh: None }, &arguments.chosen);
    if arguments.chosen.dry_run {
        render::page(plan_in(target.osm_namespace())?.manifests()?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::of(&target).await?;
    let all = meshes::list(&cluster).await?;
    let mesh = meshes::named(&all, name)?;
    meshes::unless_of_helm(mesh, &format!("upgrade {name} charts/osm"))?;
    let plan = plan_in(&mesh.namespace)?;
    plan.warnings.iter().for_each(|warning| render::warning(warning));
    apply(&cluster, &plan, arguments.verbose).await?;
    prune(&cluster, &plan).await?;
    until_ready(&cluster, &plan, arguments.chosen.timeout).await?;
    render::line(&format!("OSM successfully upgraded mesh [{name}] in namespace [{}]", plan.namespace));
    Ok(ExitCode::SUCCESS)
}

/// Deletes what an earlier version or earlier values brought and these do not.
async fn prune(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    let key = |kind: &str, namespace: &str, name: &str| format!("{kind} {namespace}/{name}");
    let wanted: BTreeSet<String> = plan
        .rendered
        .objects
        .iter()
        .map(|object| {
            let (namespace, name) = name_of(object);
            key(object["kind"].as_str().unwrap_or_default(), namespace, name)
        })
        .collect();
    let labels =
        format!("app.kubernetes.io/name=openservicemesh.io,app.kubernetes.io/instance={},{MANAGED_BY_US}", plan.mesh);
    for kind in &OF_CHART {
        for found in cluster.labelled(kind, &labels).await? {
            let namespace = found.metadata.namespace.unwrap_or_default();
            let name = found.metadata.name.unwrap_or_default();
            if !wanted.contains(&key(kind.kind, &namespace, &name)) {
                cluster.delete(kind, &namespace, &name).await?;
                render::say(&format!("{} {name} deleted: it is no longer part of the mesh", kind.kind));
            }
        }
    }
    Ok(())
}

const MANAGED_BY_US: &str = "app.kubernetes.io/managed-by=osm";
