//! What `osm startup -o json` says, as far as scenarios ask.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Lab;

/// How a pod starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Startup {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// Whether its gate is open; none if nobody could say.
    pub(crate) is_programmed: Option<bool>,
    pub(crate) steps: Vec<Step>,
    pub(crate) missing: Vec<Item>,
    pub(crate) warnings: Vec<Item>,
    pub(crate) age_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub(crate) kind: String,
    pub(crate) at_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) reason: String,
    pub(crate) what: String,
    pub(crate) owner: String,
    pub(crate) advice: String,
}

impl Startup {
    /// When something first happened, in milliseconds of the pod's age.
    pub(crate) fn first(&self, kind: &str) -> Option<i64> {
        self.steps.iter().find(|step| step.kind == kind).map(|step| step.at_ms)
    }

    /// The code of what it waits for first.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.missing.first().map(|item| item.reason.as_str())
    }
}

impl Lab {
    /// How a pod starts.
    pub(crate) fn startup_of(&self, pod: &str) -> Result<Startup> {
        let said = self.startup(&[pod, "-o", "json"])?.success()?;
        serde_json::from_str(&said).with_context(|| format!("reading {said}"))
    }

    /// How every pod of a namespace of the mesh starts.
    pub(crate) fn startups(&self, namespace: &str) -> Result<Vec<Startup>> {
        let said = self.startup(&["--all", "-n", namespace, "-o", "json"])?.success()?;
        serde_json::from_str(&said).with_context(|| format!("reading {said}"))
    }
}
