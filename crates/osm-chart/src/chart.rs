//! The chart: its files, and the objects that they come to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::evaluate::Scope;
use crate::template::{self, Template};
use crate::{ChartError, merge, violations};

/// The files of a chart, by their paths in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    files: BTreeMap<String, String>,
}

/// What is installed, where, by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The name of the release: the mesh.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Who installs: the value of the label `app.kubernetes.io/managed-by`.
    pub service: String,
}

/// What a chart comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// CustomResourceDefinitions, which come first.
    pub crds: Vec<Value>,
    /// All other objects, in the order in which they are to be made.
    pub objects: Vec<Value>,
    /// What to tell whoever installs.
    pub notes: String,
}

/// One file of the chart, as it was when this was built.
macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../charts/osm/", $path)))),*]
    };
}

/// The chart of this build; a test holds the list against the folder.
const BUILT_IN: [(&str, &str); 29] = files![
    "Chart.yaml",
    "values.yaml",
    "values.schema.json",
    "crds/egresses.yaml",
    "crds/extensionservices.yaml",
    "crds/httproutegroups.yaml",
    "crds/ingressbackends.yaml",
    "crds/meshconfigs.yaml",
    "crds/meshrootcertificates.yaml",
    "crds/retries.yaml",
    "crds/tcproutes.yaml",
    "crds/telemetries.yaml",
    "crds/trafficsplits.yaml",
    "crds/traffictargets.yaml",
    "crds/upstreamtrafficsettings.yaml",
    "templates/NOTES.txt",
    "templates/_names.tpl",
    "templates/autoscaler.yaml",
    "templates/cluster-role.yaml",
    "templates/deployment.yaml",
    "templates/disruption-budget.yaml",
    "templates/mutating-webhook.yaml",
    "templates/network-policy.yaml",
    "templates/preset-mesh-config.yaml",
    "templates/priority-class.yaml",
    "templates/role.yaml",
    "templates/service-account.yaml",
    "templates/service.yaml",
    "templates/validating-webhook.yaml",
];

/// What must be there before something else is of use. Webhooks come last: with them, pods need the controller.
const ORDER: [&str; 13] = [
    "PriorityClass",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "ConfigMap",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "Deployment",
    "HorizontalPodAutoscaler",
    "ValidatingWebhookConfiguration",
];

impl Chart {
    /// The chart of this build.
    pub fn built_in() -> Chart {
        BUILT_IN.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    /// The chart's own values.
    pub fn values(&self) -> Result<Value, ChartError> {
        self.yaml("values.yaml")
    }

    /// The version of what it installs, unless the values say otherwise.
    pub fn app_version(&self) -> Result<String, ChartError> {
        Ok(self.yaml("Chart.yaml")?["appVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// The objects that the chart comes to with these values, which are laid over its own.
    pub fn render(&self, release: &Release, values: Value) -> Result<Rendered, ChartError> {
        let mut all = self.values()?;
        merge(&mut all, values);
        if let Some(schema) = self.files.get("values.schema.json") {
            let schema = serde_json::from_str(schema).map_err(|error| file_error("values.schema.json", &error))?;
            let found = violations(&schema, &all, false);
            if !found.is_empty() {
                return Err(ChartError::Values(found));
            }
        }
        let root = json!({
            "Values": all,
            "Release": {"Name": release.name, "Namespace": release.namespace, "Service": release.service},
            "Chart": {"Name": self.yaml("Chart.yaml")?["name"], "AppVersion": self.app_version()?},
        });
        self.carry_out(&root)
    }

    fn carry_out(&self, root: &Value) -> Result<Rendered, ChartError> {
        let mut templates: Vec<(&str, Template)> = Vec::new();
        for (path, text) in self.files.iter().filter(|(path, _)| path.starts_with("templates/")) {
            templates.push((path, template::parse(path, text)?));
        }
        let definitions = templates.iter().flat_map(|(_, template)| template.definitions.clone()).collect();
        let scope = Scope { root, definitions: &definitions };
        let mut rendered = Rendered::default();
        for (path, text) in self.files.iter().filter(|(path, _)| path.starts_with("crds/")) {
            rendered.crds.extend(documents(path, text)?);
        }
        for (path, template) in templates {
            let text = scope.render(&template.nodes)?;
            if path.ends_with("NOTES.txt") {
                rendered.notes = text;
            } else if !path.ends_with(".tpl") {
                rendered.objects.extend(documents(path, &text)?);
            }
        }
        let rank = |object: &Value| ORDER.iter().position(|kind| object["kind"] == *kind).unwrap_or(ORDER.len());
        rendered.objects.sort_by_key(rank);
        Ok(rendered)
    }

    fn yaml(&self, path: &str) -> Result<Value, ChartError> {
        let text = self.files.get(path).map(String::as_str).unwrap_or_default();
        serde_saphyr::from_str(text).map_err(|error| file_error(path, &error))
    }
}

impl FromIterator<(String, String)> for Chart {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(files: T) -> Chart {
        Chart { files: files.into_iter().collect() }
    }
}

fn documents(path: &str, text: &str) -> Result<Vec<Value>, ChartError> {
    // A template that is switched off comes to nothing.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| file_error(path, &error))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn file_error(path: &str, error: &impl ToString) -> ChartError {
    ChartError::File { file: path.to_owned(), message: error.to_string() }
}
