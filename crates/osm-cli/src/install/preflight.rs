//! What would end an installation half way is looked for before it begins.

use std::collections::BTreeSet;

use osm_local::Failure;

use super::Plan;
use crate::cluster::{Cluster, Kind, kind_of};
use crate::meshes::Mesh;

/// A mesh of the same name, or one that is to be alone.
pub(super) fn no_other_mesh(meshes: &[Mesh], plan: &Plan) -> Result<(), Failure> {
    let fail = |message: String, hint: String| Err(Failure { message, hint });
    if let Some(same) = meshes.iter().find(|mesh| mesh.name == plan.mesh) {
        let hint = format!(
            "to bring it to other values or another version: osm mesh upgrade --mesh-name {name}; to begin anew: osm \
             uninstall mesh --mesh-name {name}",
            name = same.name
        );
        return fail(format!("{} is there already", same.described()), hint);
    }
    if let Some(other) = meshes.iter().find(|mesh| mesh.namespace == plan.namespace) {
        let hint = "choose another one: --osm-namespace NAMESPACE".to_owned();
        return fail(format!("namespace {} has a mesh already: {}", plan.namespace, other.name), hint);
    }
    if let Some(alone) = meshes.iter().find(|mesh| mesh.enforce_single_mesh) {
        let hint = format!(
            "allow it: osm mesh upgrade --mesh-name {} --set osm.enforceSingleMesh=false, with the other values that it has",
            alone.name
        );
        return fail(format!("{} is to be the only one of this cluster", alone.described()), hint);
    }
    match meshes.first() {
        Some(other) if plan.enforce_single_mesh => {
            let hint = "to have two: --enforce-single-mesh=false".to_owned();
            fail(format!("there is another mesh: {}", other.described()), hint)
        }
        Some(_) | None => Ok(()),
    }
}

/// A namespace that is being deleted takes nothing in.
pub(super) async fn namespace_stays(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let Some(found) = cluster.namespace(namespace).await? else { return Ok(()) };
    if found.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    let remaining = conditions.iter().filter(|condition| condition.status == "True");
    let remaining: Vec<String> = remaining.filter_map(|condition| condition.message.clone()).collect();
    let why = if remaining.is_empty() { String::new() } else { format!(": {}", remaining.join("; ")) };
    let message = format!("namespace {namespace} is being deleted{why}");
    let hint =
        format!("wait for its end: kubectl wait --for=delete namespace/{namespace}; or --osm-namespace NAMESPACE");
    Err(Failure { message, hint }.into())
}

/// Everything that is not allowed, at once.
pub(super) async fn rights(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    let mut kinds: Vec<&'static Kind> = Vec::new();
    for object in [&plan.namespace_object].into_iter().chain(&plan.rendered.crds).chain(&plan.rendered.objects) {
        let kind = kind_of(object)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut missing = BTreeSet::new();
    for kind in kinds {
        for verb in ["create", "patch"] {
            if !cluster.may(verb, kind, &plan.namespace).await? {
                missing.insert(format!("{verb} {}", kind.plural));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing.into_iter().collect();
    let message = format!("in {} you may not {}", cluster.place.server, list.join(", "));
    let hint = "have somebody with the role cluster-admin install the mesh, or grant it: kubectl create clusterrolebinding \
                NAME --clusterrole cluster-admin --user USER";
    Err(Failure { message, hint: hint.into() }.into())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::meshes::example;

    fn plan(mesh: &str, enforce_single_mesh: bool) -> Plan {
        Plan {
            mesh: mesh.into(),
            namespace: format!("{mesh}-system"),
            enforce_single_mesh,
            ca_bundle_secret_name: "osm-ca-bundle".into(),
            namespace_object: Value::Null,
            rendered: osm_chart::Rendered::default(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_second_mesh_needs_leave_of_both() {
        let check = |meshes: &[Mesh], plan: &Plan, words: &str| match no_other_mesh(meshes, plan) {
            Ok(()) => assert_eq!(words, ""),
            Err(failure) => assert!(!words.is_empty() && failure.message.contains(words), "{}", failure.message),
        };
        let alone = Mesh { enforce_single_mesh: true, ..example("alone") };
        check(&[], &plan("blue", true), "");
        check(&[example("blue")], &plan("blue", false), "mesh blue in namespace blue-system is there already");
        check(&[example("red")], &plan("blue", true), "there is another mesh: mesh red");
        check(&[example("red")], &plan("blue", false), "");
        check(&[alone], &plan("blue", false), "mesh alone in namespace alone-system is to be the only one");
        let beside = Mesh { namespace: "blue-system".into(), ..example("red") };
        check(&[beside], &plan("blue", false), "namespace blue-system has a mesh already: red");
    }
}
