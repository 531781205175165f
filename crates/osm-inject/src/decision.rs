//! Whether a pod joins the mesh: OSM's questions, in OSM's order.

use std::collections::BTreeMap;

use osm_api::{IGNORE, METRICS, MONITORED_BY, Problem, Reason, SIDECAR_INJECTION, SYSTEM_NAMESPACES, k8s};

use crate::InjectPolicy;
use crate::annotations::field;
use crate::inject::subject;

/// Annotation of the kubelet on the object of a pod that it runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The answer.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It joins.
    Inject {
        /// Its namespace wants Prometheus to scrape it.
        has_metrics: bool,
    },
    /// It does not.
    Skip {
        /// Why.
        why: String,
        /// Whether its user asked for the mesh and does not get it.
        is_unmet: bool,
    },
}

/// Whether the pod gets a sidecar, as far as labels and annotations say; false when they cannot be understood.
pub fn joins(pod: &k8s::Pod, namespace: &k8s::Namespace, policy: &InjectPolicy) -> bool {
    matches!(decide(pod, namespace, policy), Ok(Decision::Inject { .. }))
}

pub(crate) fn decide(
    pod: &k8s::Pod,
    namespace: &k8s::Namespace,
    policy: &InjectPolicy,
) -> Result<Decision, Vec<Problem>> {
    let answer = asked(pod, namespace, policy);
    let Some(why) = pod.spec.as_ref().and_then(impossible) else { return answer };
    Ok(Decision::Skip { why: why.to_owned(), is_unmet: matches!(answer, Ok(Decision::Inject { .. })) })
}

/// Why no sidecar can be given to such a pod, whoever asks for it.
fn impossible(spec: &k8s::PodSpec) -> Option<&'static str> {
    if spec.host_network == Some(true) {
        return Some("hostNetwork: the pod has no network of its own that could be redirected");
    }
    is_for_windows(spec).then_some("the pod is for Windows, and this version has no sidecar for it")
}

/// Whether a pod says that it is for Windows.
pub fn is_for_windows(spec: &k8s::PodSpec) -> bool {
    let selected = spec.node_selector.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    let named = spec.os.as_ref().map(|os| &os.name);
    selected.or(named).is_some_and(|os| os == "windows")
}

/// What labels and annotations come to.
fn asked(pod: &k8s::Pod, namespace: &k8s::Namespace, policy: &InjectPolicy) -> Result<Decision, Vec<Problem>> {
    if let Some(why) = reason_against(pod, namespace, policy) {
        return Ok(skip(why));
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let namespace_subject = format!("Namespace {name}");
    let of_pod = switch(&subject(pod, namespace), pod.metadata.annotations.as_ref(), SIDECAR_INJECTION);
    let of_namespace = switch(&namespace_subject, namespace.metadata.annotations.as_ref(), SIDECAR_INJECTION);
    let metrics = switch(&namespace_subject, namespace.metadata.annotations.as_ref(), METRICS);
    let (of_pod, of_namespace, metrics) = match (of_pod, of_namespace, metrics) {
        (Ok(of_pod), Ok(of_namespace), Ok(metrics)) => (of_pod, of_namespace, metrics),
        (of_pod, of_namespace, metrics) => {
            return Err([of_pod.err(), of_namespace.err(), metrics.err()].into_iter().flatten().flatten().collect());
        }
    };
    let has_metrics = metrics == Some(true);
    Ok(match (of_pod, of_namespace) {
        (Some(true), _) | (None, Some(true)) => Decision::Inject { has_metrics },
        (Some(false), _) => skip(format!("the pod's annotation {SIDECAR_INJECTION} says no")),
        (None, Some(false)) => skip(format!("the annotation {SIDECAR_INJECTION} of namespace {name} says no")),
        (None, None) => skip(format!("neither the pod nor namespace {name} has the annotation {SIDECAR_INJECTION}")),
    })
}

fn skip(why: String) -> Decision {
    Decision::Skip { why, is_unmet: false }
}

/// What keeps a pod out whatever its annotations say.
fn reason_against(pod: &k8s::Pod, namespace: &k8s::Namespace, policy: &InjectPolicy) -> Option<String> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let label = |key: &str| namespace.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    if pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Some("the pod mirrors one that a kubelet runs from a file, and changes nothing there".to_owned());
    }
    if SYSTEM_NAMESPACES.contains(&name) || name == policy.osm_namespace {
        return Some(format!("namespace {name} never belongs to a mesh"));
    }
    if label(IGNORE).is_some() {
        return Some(format!("namespace {name} has the label {IGNORE}"));
    }
    if label(MONITORED_BY) != Some(&policy.mesh_name) {
        return Some(format!("namespace {name} lacks the label {MONITORED_BY}: {}", policy.mesh_name));
    }
    None
}

/// The value of an annotation that is on or off, in the words that OSM knows.
fn switch(
    subject: &str,
    annotations: Option<&BTreeMap<String, String>>,
    key: &str,
) -> Result<Option<bool>, Vec<Problem>> {
    let Some(value) = annotations.and_then(|annotations| annotations.get(key)) else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "enabled" | "yes" | "true" => Ok(Some(true)),
        "disabled" | "no" | "false" => Ok(Some(false)),
        _ => {
            let message = format!("{value:?} is neither on nor off");
            let problem = Problem::new(subject, Reason::InvalidField, message).with_field(field(key));
            Err(vec![problem.with_hint("write enabled or disabled")])
        }
    }
}
