//! `osm namespace`: which namespaces belong to a mesh. Said in labels and annotations, in the words of OSM.

use std::process::ExitCode;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use osm_api::{IGNORE, METRICS, MONITORED_BY, SIDECAR_INJECTION, SYSTEM_NAMESPACES};
use osm_local::Failure;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::{
    AddNamespaces, IgnoreNamespaces, ListNamespaces, Namespace as Command, RemoveNamespaces, Target,
};
use crate::cluster::{Cluster, Failing};
use crate::{meshes, render};

/// One row of `osm namespace list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) mesh: String,
    /// `enabled`, `disabled`, `disabled (ignored)`, or `-` when nothing is said.
    pub(crate) sidecar_injection: String,
}

/// Runs one subcommand.
pub(crate) async fn run(command: Command, before: Target) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add(arguments) => add(&arguments, &Cluster::of(&arguments.target.clone().or(before)).await?).await,
        Command::Remove(arguments) => {
            remove(&arguments, &Cluster::of(&arguments.target.clone().or(before)).await?).await
        }
        Command::Ignore(arguments) => {
            ignore(&arguments, &Cluster::of(&arguments.target.clone().or(before)).await?).await
        }
        Command::List(arguments) => list(&arguments, &Cluster::of(&arguments.target.clone().or(before)).await?).await,
    }
}

async fn add(arguments: &AddNamespaces, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let mesh = &arguments.mesh.mesh_name;
    let all = meshes::list(cluster).await?;
    meshes::named(&all, mesh)?;
    let mut added = Vec::new();
    for name in &arguments.namespaces {
        let namespace = existing(cluster, name).await?;
        let has_controller = all.iter().any(|mesh| mesh.namespace == *name);
        match addition(&namespace, mesh, has_controller)? {
            Addition::Already => render::line(&format!("Namespace [{name}] has already been added to mesh [{mesh}]")),
            Addition::HasController => render::line(&format!(
                "Namespace [{name}] already has [osm-controller] installed and cannot be added to mesh [{mesh}]"
            )),
            Addition::Possible => {
                change(cluster, name, into_the_mesh(mesh, arguments.disable_sidecar_injection)).await?;
                render::line(&format!("Namespace [{name}] successfully added to mesh [{mesh}]"));
                added.push(name.as_str());
            }
        }
    }
    if !added.is_empty() && !arguments.disable_sidecar_injection {
        let commands: Vec<String> =
            added.iter().map(|name| format!("kubectl rollout restart deployment -n {name}")).collect();
        render::say(&format!("pods that run already get a sidecar when they are restarted: {}", commands.join("; ")));
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(arguments: &RemoveNamespaces, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let mesh = &arguments.mesh.mesh_name;
    for name in &arguments.namespaces {
        let namespace = existing(cluster, name).await?;
        match label(&namespace, MONITORED_BY) {
            None => render::line(&format!("Namespace [{name}] already does not belong to any mesh")),
            Some(other) if other != mesh => {
                let message = format!("namespace {name} belongs to mesh {other}, not to {mesh}");
                let hint = format!("say so: osm namespace remove {name} --mesh-name {other}");
                return Err(Failure { message, hint }.into());
            }
            Some(_) => {
                change(cluster, name, out_of_the_mesh()).await?;
                render::line(&format!("Namespace [{name}] successfully removed from mesh [{mesh}]"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ignore(arguments: &IgnoreNamespaces, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    for name in &arguments.namespaces {
        change(cluster, name, json!({"metadata": {"labels": {IGNORE: "true"}}})).await?;
        render::line(&format!("Successfully configured namespace [{name}] to be ignored"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(arguments: &ListNamespaces, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let mesh = arguments.mesh.as_ref().or(arguments.mesh_name.as_ref());
    if let Some(mesh) = mesh {
        meshes::named(&meshes::list(cluster).await?, mesh)?;
    }
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let found = api.list(&ListParams::default().labels(MONITORED_BY)).await;
    let found = found.map_err(|error| cluster.place.failing("listing namespaces", &error))?;
    let members = found.items.iter().filter_map(Member::of);
    let members: Vec<Member> = members.filter(|member| mesh.is_none_or(|mesh| *mesh == member.mesh)).collect();
    render::members(&members, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

impl Member {
    fn of(namespace: &Namespace) -> Option<Member> {
        let annotations = namespace.metadata.annotations.as_ref();
        let injection = annotations.and_then(|all| all.get(SIDECAR_INJECTION)).map(|value| value.to_ascii_lowercase());
        let is_ignored = label(namespace, IGNORE).is_some();
        let sidecar_injection = match injection.as_deref() {
            _ if is_ignored => "disabled (ignored)",
            Some("enabled" | "yes" | "true") => "enabled",
            Some("disabled" | "no" | "false") => "disabled",
            None | Some(_) => "-",
        };
        Some(Member {
            namespace: namespace.metadata.name.clone()?,
            mesh: label(namespace, MONITORED_BY)?.to_owned(),
            sidecar_injection: sidecar_injection.to_owned(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addition {
    Possible,
    Already,
    HasController,
}

/// Whether a namespace can be added to a mesh.
fn addition(namespace: &Namespace, mesh: &str, has_controller: bool) -> Result<Addition, Failure> {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let fail = |message: String, hint: String| Err(Failure { message, hint });
    if SYSTEM_NAMESPACES.contains(&name.as_str()) {
        return fail(
            format!("namespace {name} belongs to Kubernetes itself and is never part of a mesh"),
            "add the namespaces of your applications".into(),
        );
    }
    if label(namespace, IGNORE).is_some() {
        let hint = format!("take the label away first: kubectl label namespace {name} {IGNORE}-");
        return fail(format!("namespace {name} is to be ignored by every mesh: it has the label {IGNORE}"), hint);
    }
    match label(namespace, MONITORED_BY) {
        Some(member_of) if member_of == mesh => Ok(Addition::Already),
        Some(other) => {
            let hint = format!("remove it from there first: osm namespace remove {name} --mesh-name {other}");
            fail(format!("namespace {name} belongs to mesh {other}"), hint)
        }
        None if has_controller => Ok(Addition::HasController),
        None => Ok(Addition::Possible),
    }
}

fn into_the_mesh(mesh: &str, disable_sidecar_injection: bool) -> Value {
    let injection = if disable_sidecar_injection { "disabled" } else { "enabled" };
    json!({"metadata": {"labels": {MONITORED_BY: mesh}, "annotations": {SIDECAR_INJECTION: injection}}})
}

/// The patch that takes away all that adding and `osm metrics` bring.
pub(crate) fn out_of_the_mesh() -> Value {
    json!({"metadata": {
        "labels": {MONITORED_BY: null, IGNORE: null},
        "annotations": {SIDECAR_INJECTION: null, METRICS: null},
    }})
}

fn label<'a>(namespace: &'a Namespace, key: &str) -> Option<&'a str> {
    namespace.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

async fn existing(cluster: &Cluster, name: &str) -> anyhow::Result<Namespace> {
    cluster.namespace(name).await?.ok_or_else(|| missing(name).into())
}

fn missing(name: &str) -> Failure {
    let hint = format!("see what there is: kubectl get namespaces; or make it: kubectl create namespace {name}");
    Failure { message: format!("there is no namespace {name}"), hint }
}

async fn change(cluster: &Cluster, name: &str, patch: Value) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(missing(name).into()),
        Err(error) => Err(cluster.place.failing(&format!("changing namespace {name}"), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, labels: Value, annotations: Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}}))
            .unwrap()
    }

    #[test]
    fn only_a_namespace_that_is_free_is_added() {
        let check = |labels: Value, has_controller, expected: Result<Addition, &str>| {
            let found = addition(&namespace("shop", labels, json!({})), "osm", has_controller);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(failure), Err(words)) => assert!(failure.message.contains(words), "{}", failure.message),
                (found, expected) => panic!("{found:?} is not {expected:?}"),
            }
        };
        check(json!({}), false, Ok(Addition::Possible));
        check(json!({MONITORED_BY: "osm"}), false, Ok(Addition::Already));
        check(json!({MONITORED_BY: "blue"}), false, Err("belongs to mesh blue"));
        check(json!({}), true, Ok(Addition::HasController));
        check(json!({IGNORE: "true"}), false, Err("is to be ignored"));
        assert!(addition(&namespace("kube-system", json!({}), json!({})), "osm", false).is_err());
    }

    #[test]
    fn rows_say_whether_pods_get_sidecars() {
        let check = |labels: Value, annotations: Value, expected: &str| {
            let member = Member::of(&namespace("shop", labels, annotations)).unwrap();
            assert_eq!(member.sidecar_injection, expected);
        };
        let of = json!({MONITORED_BY: "osm"});
        check(of.clone(), json!({}), "-");
        check(of.clone(), json!({SIDECAR_INJECTION: "Enabled"}), "enabled");
        check(of.clone(), json!({SIDECAR_INJECTION: "no"}), "disabled");
        check(
            json!({MONITORED_BY: "osm", IGNORE: "true"}),
            json!({SIDECAR_INJECTION: "enabled"}),
            "disabled (ignored)",
        );
        assert_eq!(Member::of(&namespace("shop", json!({}), json!({}))), None);
    }

    #[test]
    fn leaving_takes_away_what_joining_brought() {
        let (joined, left) = (into_the_mesh("osm", false), out_of_the_mesh());
        for part in ["labels", "annotations"] {
            for key in joined["metadata"][part].as_object().unwrap().keys() {
                assert_eq!(left["metadata"][part].get(key), Some(&Value::Null), "{key}");
            }
        }
        assert_eq!(into_the_mesh("osm", true)["metadata"]["annotations"][SIDECAR_INJECTION], "disabled");
    }
}
