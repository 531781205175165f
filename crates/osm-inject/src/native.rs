//! Whether the nodes on which a pod may land have native sidecars.
//!
//! Injection comes before scheduling, so this is the oldest kubelet among the nodes that the scheduler may choose, as
//! far as the pod itself says: node name, selector, required affinity, and taints that last.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use osm_api::k8s;

/// Whether a pod can have a native sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NativeSidecars {
    /// Wherever it lands.
    Available,
    /// Not everywhere.
    Missing {
        /// Where not, as a sentence.
        why: String,
    },
}

/// The version of a kubelet or an API server, without what does not matter here: `v1.29.3-gke.1` is 1.29.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeletVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAVersion;

impl KubeletVersion {
    /// The first in which init containers may keep running without further switches.
    pub const NATIVE_SIDECARS: KubeletVersion = KubeletVersion { major: 1, minor: 29 };
}

impl NativeSidecars {
    /// For a pod that will land on one of these nodes. None of them known is no answer.
    pub fn on_nodes(spec: &k8s::PodSpec, nodes: &[k8s::Node]) -> Option<NativeSidecars> {
        let linux: Vec<&k8s::Node> = nodes.iter().filter(|node| !is_windows(node)).collect();
        let possible: Vec<&k8s::Node> = linux.iter().copied().filter(|node| may_land(spec, node)).collect();
        // No node now does not mean none later: then any of them may be like the one to come.
        let nodes = if possible.is_empty() { linux } else { possible };
        let versioned = nodes.into_iter().map(|node| (kubelet(node), node));
        let (version, node) = versioned.min_by_key(|(version, node)| (*version, node.metadata.name.clone()))?;
        let name = node.metadata.name.as_deref().unwrap_or_default();
        Some(match version {
            Some(version) if version >= KubeletVersion::NATIVE_SIDECARS => NativeSidecars::Available,
            Some(version) => NativeSidecars::Missing {
                why: format!(
                    "node {name}, on which the pod may land, has none (kubelet {version}; it takes {})",
                    KubeletVersion::NATIVE_SIDECARS
                ),
            },
            None => NativeSidecars::Missing { why: format!("node {name} does not say which kubelet it has") },
        })
    }

    /// By the version of the API server alone, for when the nodes are not known: no kubelet is newer.
    pub fn by_server(version: Option<KubeletVersion>) -> NativeSidecars {
        match version {
            Some(version) if version >= KubeletVersion::NATIVE_SIDECARS => NativeSidecars::Available,
            Some(version) => NativeSidecars::Missing {
                why: format!("the API server is {version}, and it takes {}", KubeletVersion::NATIVE_SIDECARS),
            },
            None => NativeSidecars::Missing { why: "neither nodes nor the API server's version are known".to_owned() },
        }
    }
}

impl FromStr for KubeletVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<KubeletVersion, NotAVersion> {
        let (major, rest) = text.trim_start_matches('v').split_once('.').ok_or(NotAVersion)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = |text: &str| text.parse().map_err(|_| NotAVersion);
        Ok(KubeletVersion { major: number(major)?, minor: number(&rest[..digits])? })
    }
}

impl fmt::Display for KubeletVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// None sorts first: a node that does not say is the oldest.
fn kubelet(node: &k8s::Node) -> Option<KubeletVersion> {
    node.status.as_ref()?.node_info.as_ref()?.kubelet_version.parse().ok()
}

fn is_windows(node: &k8s::Node) -> bool {
    label(node, "kubernetes.io/os").is_some_and(|os| os == "windows")
}

fn label<'a>(node: &'a k8s::Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn may_land(spec: &k8s::PodSpec, node: &k8s::Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if let Some(chosen) = spec.node_name.as_deref().filter(|chosen| !chosen.is_empty()) {
        return chosen == name;
    }
    let nothing = BTreeMap::new();
    let selector = spec.node_selector.as_ref().unwrap_or(&nothing);
    selector.iter().all(|(key, value)| label(node, key) == Some(value))
        && affinity(spec).is_none_or(|required| required.node_selector_terms.iter().any(|term| fits(term, node, name)))
        && taints(node).all(|taint| spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint)))
}

fn affinity(spec: &k8s::PodSpec) -> Option<&k8s::NodeSelector> {
    let of_node = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    of_node.required_during_scheduling_ignored_during_execution.as_ref()
}

/// A term without any requirement fits no node.
fn fits(term: &k8s::NodeSelectorTerm, node: &k8s::Node, name: &str) -> bool {
    let by_label = term.match_expressions.iter().flatten().map(|r| (r, label(node, &r.key)));
    let by_field = term.match_fields.iter().flatten().map(|r| (r, (r.key == "metadata.name").then_some(name)));
    let mut requirements = by_label.chain(by_field).peekable();
    requirements.peek().is_some() && requirements.all(|(requirement, value)| holds(requirement, value))
}

/// What is not known here is taken to hold: one node too many is safer than one too few.
fn holds(requirement: &k8s::NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_in = value.is_some_and(|value| values.iter().any(|allowed| allowed == value));
    let order = || {
        let number = |text: &str| text.parse::<i64>().ok();
        Some(number(value?)?.cmp(&number(values.first()?)?))
    };
    match requirement.operator.as_str() {
        "In" => is_in,
        "NotIn" => !is_in,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => order().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => order().is_some_and(std::cmp::Ordering::is_lt),
        _ => true,
    }
}

/// Taints that keep pods away for good. Kubernetes' own come and go with the node's health.
fn taints(node: &k8s::Node) -> impl Iterator<Item = &k8s::Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| {
        ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str()) && !taint.key.starts_with("node.kubernetes.io/")
    })
}

fn tolerates(toleration: &k8s::Toleration, taint: &k8s::Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let is_exists = toleration.operator.as_deref() == Some("Exists");
    given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && match given(&toleration.key) {
            None => is_exists,
            Some(key) => {
                key == taint.key
                    && (is_exists
                        || toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default())
            }
        }
}

#[cfg(test)]
mod tests;
