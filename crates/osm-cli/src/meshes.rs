//! The meshes of a cluster, as their controllers' Deployments tell of them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use osm_api::MONITORED_BY;
use osm_local::Failure;
use serde::Serialize;

use crate::cluster::{Cluster, Failing};

/// The label with the name of the mesh, as OSM writes it.
const MESH_NAME: &str = "meshName";
const ENFORCE_SINGLE_MESH: &str = "enforceSingleMesh";
const VERSION: &str = "app.kubernetes.io/version";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// One mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mesh {
    /// Its name.
    pub(crate) name: String,
    /// The control plane's namespace.
    pub(crate) namespace: String,
    /// The version installed.
    pub(crate) version: String,
    /// Replicas of the controller that are ready, and that there should be.
    pub(crate) ready: i32,
    /// Replicas of the controller that there should be.
    pub(crate) replicas: i32,
    /// Who installed it: `osm` or `Helm`.
    pub(crate) managed_by: String,
    /// Whether it refuses another mesh beside it.
    pub(crate) enforce_single_mesh: bool,
    /// The namespaces that belong to it.
    pub(crate) namespaces: Vec<String>,
}

impl Mesh {
    fn of(deployment: &Deployment) -> Option<Mesh> {
        let labels = deployment.metadata.labels.as_ref()?;
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let status = deployment.status.clone().unwrap_or_default();
        Some(Mesh {
            name: labels.get(MESH_NAME)?.clone(),
            namespace: deployment.metadata.namespace.clone()?,
            version: label(VERSION),
            ready: status.available_replicas.unwrap_or_default(),
            replicas: deployment.spec.replicas.unwrap_or(1),
            managed_by: label(MANAGED_BY),
            enforce_single_mesh: label(ENFORCE_SINGLE_MESH) == "true",
            namespaces: Vec::new(),
        })
    }

    /// The mesh in words, for messages.
    pub(crate) fn described(&self) -> String {
        format!("mesh {} in namespace {}", self.name, self.namespace)
    }
}

/// All meshes of the cluster with their namespaces, by name.
pub(crate) async fn list(cluster: &Cluster) -> anyhow::Result<Vec<Mesh>> {
    let deployments: Api<Deployment> = Api::all(cluster.client.clone());
    let of_controllers = ListParams::default().labels("app=osm-controller");
    let found = deployments.list(&of_controllers).await;
    let found = found.map_err(|error| cluster.place.failing("looking for meshes", &error))?;
    let mut meshes: Vec<Mesh> = found.items.iter().filter_map(Mesh::of).collect();
    if !meshes.is_empty() {
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let members = namespaces.list(&ListParams::default().labels(MONITORED_BY)).await;
        let members = members.map_err(|error| cluster.place.failing("listing namespaces", &error))?;
        for namespace in members.items {
            let of = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(MONITORED_BY));
            if let (Some(mesh), Some(name)) =
                (meshes.iter_mut().find(|mesh| Some(&mesh.name) == of), namespace.metadata.name)
            {
                mesh.namespaces.push(name);
            }
        }
    }
    meshes.sort_by(|a, b| (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)));
    Ok(meshes)
}

/// The one mesh of that name.
pub(crate) fn named<'a>(meshes: &'a [Mesh], name: &str) -> Result<&'a Mesh, Failure> {
    meshes.iter().find(|mesh| mesh.name == name).ok_or_else(|| {
        let all: Vec<&str> = meshes.iter().map(|mesh| mesh.name.as_str()).collect();
        let hint = if all.is_empty() {
            "there is none in this cluster; install one: osm install".to_owned()
        } else {
            format!("there are: {}; say which: --mesh-name NAME", all.join(", "))
        };
        Failure { message: format!("there is no mesh {name}"), hint }
    })
}

/// What belongs to Helm is changed by Helm: two that own one object would undo each other's work.
pub(crate) fn unless_of_helm(mesh: &Mesh, with_helm: &str) -> Result<(), Failure> {
    if mesh.managed_by != "Helm" {
        return Ok(());
    }
    let message = format!("{} was installed with helm", mesh.described());
    Err(Failure { message, hint: format!("use it for this too: helm {with_helm} -n {}", mesh.namespace) })
}

#[cfg(test)]
pub(crate) fn example(name: &str) -> Mesh {
    Mesh {
        name: name.into(),
        namespace: format!("{name}-system"),
        version: "v1".into(),
        ready: 1,
        replicas: 1,
        managed_by: "osm".into(),
        enforce_single_mesh: false,
        namespaces: vec!["shop".into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_mesh_is_answered_with_those_there_are() {
        let meshes = [example("blue"), example("red")];
        assert_eq!(named(&meshes, "red").unwrap().namespace, "red-system");
        let failure = named(&meshes, "green").unwrap_err();
        assert_eq!(failure.message, "there is no mesh green");
        assert_eq!(failure.hint, "there are: blue, red; say which: --mesh-name NAME");
        assert!(named(&[], "osm").unwrap_err().hint.contains("osm install"));
    }

    #[test]
    fn what_helm_installed_is_left_to_helm() {
        let mesh = Mesh { managed_by: "Helm".into(), ..example("blue") };
        let failure = unless_of_helm(&mesh, "uninstall blue").unwrap_err();
        assert_eq!(failure.hint, "use it for this too: helm uninstall blue -n blue-system");
    }
}
