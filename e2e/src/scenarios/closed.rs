//! The webhooks are closed. What they keep out is seen by opening them.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lab::Lab;

/// The configuration with the webhook that injects, and the one with that which looks at the order.
const INJECTS: (&str, &str) = ("mutatingwebhookconfiguration", "osm-inject.k8s.io");
const LOOKS_AT_THE_ORDER: (&str, &str) = ("validatingwebhookconfiguration", "osm-order.k8s.io");

/// A change of webhooks of the mesh, as long as it lives.
pub(super) struct Opened<'a> {
    lab: &'a Lab,
    changes: Vec<Change>,
}

/// One field of one webhook.
struct Change {
    /// `kind/name` of the configuration.
    configuration: String,
    path: String,
    before: Value,
}

impl<'a> Opened<'a> {
    /// Pods are made while nobody answers.
    pub(super) fn fail_open(lab: &'a Lab) -> Result<Opened<'a>> {
        let mut opened = Opened { lab, changes: Vec::new() };
        opened.change(INJECTS, "failurePolicy", json!("Ignore"))?;
        opened.change(LOOKS_AT_THE_ORDER, "failurePolicy", json!("Ignore"))?;
        Ok(opened)
    }

    /// Nobody looks at the order.
    pub(super) fn without_a_look_at_the_order(lab: &'a Lab) -> Result<Opened<'a>> {
        let mut opened = Opened { lab, changes: Vec::new() };
        let no_pod = json!({"matchLabels": {"e2e": "nobody"}});
        opened.change(LOOKS_AT_THE_ORDER, "objectSelector", no_pod)?;
        Ok(opened)
    }

    fn change(&mut self, (kind, webhook): (&str, &str), field: &str, value: Value) -> Result<()> {
        let said = self.lab.kubectl(&["get", kind, "-l", "app=osm-controller", "-o", "json"])?.success()?;
        let list: Value = serde_json::from_str(&said).context("reading the webhooks")?;
        let configuration = &list["items"][0];
        let webhooks = configuration["webhooks"].as_array().context("the mesh has no webhooks")?;
        let place = webhooks.iter().position(|found| found["name"] == webhook);
        let place = place.with_context(|| format!("there is no webhook {webhook}"))?;
        let name = configuration["metadata"]["name"].as_str().context("the configuration has no name")?;
        let change = Change {
            configuration: format!("{kind}/{name}"),
            path: format!("/webhooks/{place}/{field}"),
            before: webhooks[place][field].clone(),
        };
        change.set(self.lab, &value)?;
        self.changes.push(change);
        Ok(())
    }
}

impl Change {
    fn set(&self, lab: &Lab, value: &Value) -> Result<()> {
        let patch = json!([{"op": "replace", "path": self.path, "value": value}]).to_string();
        lab.kubectl(&["patch", &self.configuration, "--type=json", "-p", &patch])?.success()?;
        Ok(())
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        for change in &self.changes {
            // There is nobody to tell; what stays open makes the scenario fail that comes next and needs it closed.
            change.set(self.lab, &change.before).ok();
        }
    }
}
