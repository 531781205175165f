//! What is to be installed: the chart with the values that were chosen. Nothing here touches a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use osm_api::is_dns_label;
use osm_chart::{Chart, ChartError, Release, Rendered, apply_set, merge};
use osm_local::Failure;
use serde_json::{Value, json};

use crate::arguments::ChosenValues;

/// The name of the installer, in labels.
const MANAGED_BY: &str = "osm";

/// What was asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) mesh: &'a str,
    pub(crate) namespace: &'a str,
    /// `None` leaves it to the values.
    pub(crate) enforce_single_mesh: Option<bool>,
}

/// The objects, and what of the values the installer needs to know itself.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mesh: String,
    pub(crate) namespace: String,
    pub(crate) enforce_single_mesh: bool,
    pub(crate) ca_bundle_secret_name: String,
    /// The namespace of the control plane, in case it is not there.
    pub(crate) namespace_object: Value,
    pub(crate) rendered: Rendered,
    /// Values that were given and mean nothing.
    pub(crate) warnings: Vec<String>,
}

/// Values of OSM's chart that a values file may have and this chart does nothing with.
const UNUSED: [(&str, &str); 8] = [
    ("/osm/deployPrometheus", "no Prometheus comes with it; the controller and the sidecars can be scraped by yours"),
    ("/osm/deployGrafana", "no Grafana comes with it"),
    ("/osm/deployJaeger", "no Jaeger comes with it; osm.tracing.address names yours"),
    ("/osm/enableFluentbit", "no Fluent Bit comes with it; logs go to standard error"),
    ("/osm/enableReconciler", "nothing is put back behind your back; osm mesh upgrade does it"),
    ("/osm/featureFlags/enableMulticlusterMode", "there is no such mode"),
    ("/contour/enabled", "no Contour comes with it"),
    ("/osm/osmBootstrap", "there is no such part; the controller does its work"),
];

impl Plan {
    /// Reads the values and makes the objects.
    pub(crate) fn of(wanted: &Wanted<'_>, chosen: &ChosenValues) -> anyhow::Result<Plan> {
        for (flag, name) in [("--mesh-name", wanted.mesh), ("--osm-namespace", wanted.namespace)] {
            if !is_dns_label(name) {
                let hint = "use lower-case letters, digits and '-', 63 at most".to_owned();
                return Err(Failure { message: format!("{flag} {name:?} cannot be a name"), hint }.into());
            }
        }
        let chart = match &chosen.osm_chart_path {
            Some(folder) => read_chart(folder)?,
            None => Chart::built_in(),
        };
        let mut values = json!({"osm": {"meshName": wanted.mesh}});
        if let Some(enforce) = wanted.enforce_single_mesh {
            values["osm"]["enforceSingleMesh"] = enforce.into();
        }
        for file in &chosen.values {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            let read = serde_saphyr::from_str::<Value>(&text).with_context(|| format!("reading {}", file.display()))?;
            merge(&mut values, read);
        }
        for set in &chosen.set {
            apply_set(&mut values, set).map_err(explained)?;
        }
        let given = values.clone();
        let mut all = chart.values().map_err(explained)?;
        merge(&mut all, values.clone());
        let text = |pointer: &str| all.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        // The values count more than the flags, as in OSM.
        let mesh = text("/osm/meshName");
        let namespace = Some(text("/osm/osmNamespace")).filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| wanted.namespace.to_owned());
        let release = Release { name: mesh.clone(), namespace: namespace.clone(), service: MANAGED_BY.into() };
        Ok(Plan {
            rendered: chart.render(&release, values).map_err(explained)?,
            namespace_object: namespace_object(&namespace, &mesh),
            enforce_single_mesh: all.pointer("/osm/enforceSingleMesh") == Some(&Value::Bool(true)),
            ca_bundle_secret_name: text("/osm/caBundleSecretName"),
            warnings: unused(&given),
            mesh,
            namespace,
        })
    }

    /// Everything as one text, in the order in which it is applied.
    pub(crate) fn manifests(&self) -> anyhow::Result<String> {
        let objects = [&self.namespace_object].into_iter().chain(&self.rendered.crds).chain(&self.rendered.objects);
        let texts: Result<Vec<String>, _> = objects.map(serde_saphyr::to_string).collect();
        Ok(texts.context("writing the objects")?.join("---\n"))
    }

    /// The webhook configurations, which the controller completes.
    pub(crate) fn webhooks(&self) -> impl Iterator<Item = &Value> {
        let is_webhook = |object: &&Value| object["kind"].as_str().is_some_and(|kind| kind.contains("Webhook"));
        self.rendered.objects.iter().filter(is_webhook)
    }
}

/// Pod Security: nothing of the control plane is privileged, and a pod that is would be refused.
fn namespace_object(namespace: &str, mesh: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {
            "app.kubernetes.io/name": "openservicemesh.io",
            "app.kubernetes.io/instance": mesh,
            "app.kubernetes.io/managed-by": MANAGED_BY,
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/warn": "restricted",
        }},
    })
}

fn unused(given: &Value) -> Vec<String> {
    let is_given = |pointer: &str| match given.pointer(pointer) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(_) => true,
    };
    let found = UNUSED.iter().filter(|(pointer, _)| is_given(pointer));
    found.map(|(pointer, why)| format!("{} has no effect: {why}", pointer[1..].replace('/', "."))).collect()
}

fn explained(error: ChartError) -> Failure {
    let hint = match &error {
        ChartError::Values(_) => "docs/install.md has every value, and so has charts/osm/values.yaml",
        ChartError::Set { .. } => "a comma in a value is written \\, and a dot in a name \\.",
        ChartError::File { .. } | ChartError::Template { .. } => {
            "this command reads the part of Go's templates that its own chart uses; helm reads all of it"
        }
    };
    let message = match error {
        ChartError::Values(found) if found.len() == 1 => format!("values: {}", found.concat()),
        ChartError::Values(found) => format!("values:\n  {}", found.join("\n  ")),
        other => other.to_string(),
    };
    Failure { message, hint: hint.into() }
}

fn read_chart(folder: &Path) -> anyhow::Result<Chart> {
    let mut files = BTreeMap::new();
    read_below(folder, folder, &mut files).with_context(|| format!("reading the chart in {}", folder.display()))?;
    if !files.contains_key("Chart.yaml") {
        let message = format!("{} is not the folder of a chart: there is no Chart.yaml in it", folder.display());
        return Err(Failure { message, hint: "unpack a chart that is an archive".into() }.into());
    }
    Ok(files.into_iter().collect())
}

fn read_below(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_below(root, &path, files)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root).context("it is below the folder")?;
            files.insert(name.to_string_lossy().into_owned(), text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plan(set: &[&str]) -> Result<Plan, String> {
        let chosen = ChosenValues {
            set: set.iter().map(|set| (*set).to_owned()).collect(),
            values: Vec::new(),
            osm_chart_path: None,
            timeout: Duration::ZERO,
            dry_run: true,
        };
        let wanted = Wanted { mesh: "blue", namespace: "blue-system", enforce_single_mesh: Some(true) };
        Plan::of(&wanted, &chosen).map_err(|error| error.to_string())
    }

    #[test]
    fn mesh_and_namespace_reach_every_object() {
        let plan = plan(&[]).unwrap();
        for object in &plan.rendered.objects {
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "blue");
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "osm");
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace.is_null() || namespace == "blue-system", "{object}");
        }
        let names: Vec<_> = plan.webhooks().map(|webhook| webhook["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["osm-validator-mesh-blue", "osm-webhook-blue"]);
        assert!(plan.enforce_single_mesh);
    }

    #[test]
    fn values_count_more_than_flags() {
        let plan = plan(&["osm.osmNamespace=elsewhere,osm.enforceSingleMesh=false,osm.caBundleSecretName=ca"]).unwrap();
        assert_eq!((plan.namespace.as_str(), plan.ca_bundle_secret_name.as_str()), ("elsewhere", "ca"));
        assert!(!plan.enforce_single_mesh);
        assert_eq!(plan.namespace_object["metadata"]["name"], "elsewhere");
    }

    #[test]
    fn values_of_osm_without_effect_are_named() {
        let plan = plan(&["osm.deployGrafana=true,osm.deployPrometheus=false"]).unwrap();
        assert_eq!(plan.warnings, ["osm.deployGrafana has no effect: no Grafana comes with it"]);
    }

    #[test]
    fn wrong_values_and_names_are_told_before_anything_is_done() {
        let error = plan(&["osm.image.pullPolicy=Sometimes"]).unwrap_err();
        assert_eq!(
            error,
            "values: osm.image.pullPolicy: \"Sometimes\" is none of \"Always\", \"IfNotPresent\", \"Never\""
        );
        assert!(plan(&["osm.x"]).unwrap_err().contains("write NAME=VALUE"));
        let wanted = Wanted { mesh: "a.b", namespace: "n", enforce_single_mesh: None };
        let chosen =
            ChosenValues { set: vec![], values: vec![], osm_chart_path: None, timeout: Duration::ZERO, dry_run: true };
        assert_eq!(Plan::of(&wanted, &chosen).unwrap_err().to_string(), "--mesh-name \"a.b\" cannot be a name");
    }
}
