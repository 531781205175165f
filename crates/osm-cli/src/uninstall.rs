//! `osm uninstall`: nothing of a mesh stays behind but what belongs to its users.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use osm_api::MESH_CONFIG_NAME;
use osm_local::Failure;
use osm_runtime::clock;
use tokio::time::sleep;

use crate::arguments::{Target, UninstallMesh};
use crate::cluster::{CRD, Cluster, Failing, Kind, LEASE, MESH_CONFIG, NAMESPACE, OF_CHART, SECRET};
use crate::meshes::{self, Mesh};
use crate::namespaces::out_of_the_mesh;
use crate::render;

const INTERVAL: Duration = Duration::from_millis(200);
/// The label of everything that the chart makes.
const OURS: &str = "app.kubernetes.io/name=openservicemesh.io";

/// Takes meshes out of the cluster.
pub(crate) async fn run(arguments: UninstallMesh, before: Target) -> anyhow::Result<ExitCode> {
    let target = arguments.target.clone().or(before);
    let cluster = Cluster::of(&target).await?;
    let all = meshes::list(&cluster).await?;
    let chosen: Vec<&Mesh> = match &arguments.mesh_name {
        Some(name) => match meshes::named(&all, name) {
            Ok(mesh) => vec![mesh],
            // Scripts take a mesh away before they install it, and one that did not get far has no controller.
            Err(_) if arguments.force => Vec::new(),
            Err(failure) => return Err(failure.into()),
        },
        None => all.iter().collect(),
    };
    if chosen.is_empty() {
        let name = arguments.mesh_name.as_deref().unwrap_or("osm");
        render::say(&format!("there is no mesh {name}"));
        // A name that is not right must not cost another mesh its settings and its authority.
        if arguments.force && all.iter().all(|mesh| mesh.namespace != target.osm_namespace()) {
            leftovers(&cluster, name, target.osm_namespace(), &arguments).await?;
        }
    }
    let mut stay: Vec<&Mesh> = all.iter().collect();
    for mesh in chosen {
        if !arguments.force && !agreed(&format!("Uninstall OSM [mesh name: {}]? [y/n] ", mesh.name))? {
            render::line(&format!("OSM [mesh name: {}] not uninstalled", mesh.name));
            continue;
        }
        meshes::unless_of_helm(mesh, &format!("uninstall {}", mesh.name))?;
        everything(&cluster, &mesh.name, &mesh.namespace, &arguments.ca_bundle_secret_name, arguments.timeout).await?;
        for namespace in &mesh.namespaces {
            leave(&cluster, namespace).await?;
        }
        if arguments.delete_namespace {
            cluster.delete(&NAMESPACE, "", &mesh.namespace).await?;
            until_namespace_is_gone(&cluster, &mesh.namespace, arguments.timeout).await?;
        }
        stay.retain(|other| *other != mesh);
        render::line(&format!("OSM [mesh name: {}] in namespace [{}] uninstalled", mesh.name, mesh.namespace));
        if !mesh.namespaces.is_empty() {
            render::say(&format!("pods keep their sidecars until they are restarted: {}", mesh.namespaces.join(", ")));
        }
    }
    if arguments.delete_cluster_wide_resources {
        cluster_wide(&cluster, &stay, arguments.timeout).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What an installation that ended early left behind.
async fn leftovers(cluster: &Cluster, mesh: &str, namespace: &str, arguments: &UninstallMesh) -> anyhow::Result<()> {
    everything(cluster, mesh, namespace, &arguments.ca_bundle_secret_name, arguments.timeout).await?;
    let labels = format!("{OURS},app.kubernetes.io/instance={mesh}");
    let ours = cluster.labelled(&NAMESPACE, &labels).await?;
    if arguments.delete_namespace && ours.iter().any(|it| it.metadata.name.as_deref() == Some(namespace)) {
        cluster.delete(&NAMESPACE, "", namespace).await?;
        until_namespace_is_gone(cluster, namespace, arguments.timeout).await?;
    }
    Ok(())
}

/// Deletes what was installed, and what the controller made of it: MeshConfig, authority, lease.
pub(crate) async fn everything(
    cluster: &Cluster,
    mesh: &str,
    namespace: &str,
    secret: &str,
    timeout: Duration,
) -> anyhow::Result<()> {
    let labels = format!("{OURS},app.kubernetes.io/instance={mesh}");
    for kind in &OF_CHART {
        for object in cluster.labelled(kind, &labels).await? {
            let name = object.metadata.name.unwrap_or_default();
            cluster.delete(kind, &object.metadata.namespace.unwrap_or_default(), &name).await?;
        }
    }
    // The pods go with their Deployment, and it is gone when they are. Until then they could make these anew.
    for kind in &OF_CHART {
        until_gone(cluster, kind, &labels, timeout).await?;
    }
    cluster.delete(&MESH_CONFIG, namespace, MESH_CONFIG_NAME).await?;
    cluster.delete(&SECRET, namespace, secret).await?;
    cluster.delete(&LEASE, namespace, "osm-controller").await?;
    Ok(())
}

async fn leave(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let left = api.patch(namespace, &PatchParams::default(), &Patch::Merge(out_of_the_mesh())).await;
    match left {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(cluster.place.failing(&format!("taking namespace {namespace} out of the mesh"), &error)),
    }
}

/// Deletes CRDs, unless another mesh needs them.
async fn cluster_wide(cluster: &Cluster, stay: &[&Mesh], timeout: Duration) -> anyhow::Result<()> {
    let others: Vec<String> = stay.iter().map(|mesh| mesh.described()).collect();
    if !others.is_empty() {
        let message = format!("CRDs stay: {} needs them", others.join(" and "));
        return Err(Failure { message, hint: "uninstall that one first".into() }.into());
    }
    let crds = cluster.labelled(&CRD, OURS).await?;
    let count = crds.len();
    for crd in crds {
        cluster.delete(&CRD, "", &crd.metadata.name.unwrap_or_default()).await?;
    }
    until_gone(cluster, &CRD, OURS, timeout).await?;
    render::say(&format!("{count} CRDs deleted, and every object of their kinds"));
    Ok(())
}

async fn until_gone(cluster: &Cluster, kind: &Kind, labels: &str, timeout: Duration) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + timeout;
    loop {
        let left = cluster.labelled(kind, labels).await?;
        let Some(one) = left.first() else { return Ok(()) };
        if clock::monotonic() > deadline {
            let name = one.metadata.name.clone().unwrap_or_default();
            let held: Vec<String> = one.metadata.finalizers.clone().unwrap_or_default();
            let message =
                format!("{} {name} is not gone after {} s: {}", kind.kind, timeout.as_secs(), held.join(", "));
            return Err(Failure {
                message,
                hint: format!("see what holds it: kubectl get {} -A -o yaml", kind.plural),
            }
            .into());
        }
        sleep(INTERVAL).await;
    }
}

async fn until_namespace_is_gone(cluster: &Cluster, namespace: &str, timeout: Duration) -> anyhow::Result<()> {
    let deadline = clock::monotonic() + timeout;
    while let Some(found) = cluster.namespace(namespace).await? {
        if clock::monotonic() > deadline {
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let said: Vec<String> =
                conditions.into_iter().filter(|it| it.status == "True").filter_map(|it| it.message).collect();
            let message =
                format!("namespace {namespace} is not gone after {} s: {}", timeout.as_secs(), said.join("; "));
            return Err(Failure { message, hint: format!("see what is left: kubectl get all -n {namespace}") }.into());
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}

/// Asks on standard error; only a terminal can answer for sure, and an end of input is a no.
fn agreed(question: &str) -> anyhow::Result<bool> {
    render::ask(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !io::stdin().is_terminal() {
        render::say("");
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
