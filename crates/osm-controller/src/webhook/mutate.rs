//! `/mutate-pod-creation`: a pod that is about to be made gets its sidecar, or a word about why not. Pure.

use osm_api::k8s;
use osm_inject::{InjectPolicy, Injection, inject};
use rand::Rng;
use serde_json::Value;

use super::patch::patch;
use super::review::{Answer, Operation, Request};

/// What becomes of a request about a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// The pod joins the mesh.
    Injected(Answer),
    /// It stays as it is.
    Skipped {
        /// Why.
        why: String,
        /// Whether its user asked for the mesh and does not get it.
        is_unmet: bool,
    },
    /// It must not be made like this.
    Refused(Answer),
}

/// The pod of a request that asks for one to be made; none for every other request.
pub(crate) fn pod_to_make(request: &Request) -> Option<Result<k8s::Pod, Answer>> {
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    if !is_pod || request.operation != Operation::Create {
        return None;
    }
    Some(match serde_json::from_value::<k8s::Pod>(request.object.clone()) {
        Ok(mut pod) => {
            pod.metadata.namespace = Some(request.namespace.clone());
            Ok(pod)
        }
        Err(error) => Err(Answer::refused(
            422,
            format!(
                "the mesh cannot read this pod: {error}; mend it, or set openservicemesh.io/sidecar-injection: disabled on its namespace"
            ),
        )),
    })
}

/// Decides about a pod. The patch is against the object as it came.
pub(crate) fn decide(
    request: &Request,
    pod: &k8s::Pod,
    namespace: &k8s::Namespace,
    policy: &InjectPolicy,
    rng: &mut impl Rng,
) -> Decision {
    match inject(pod, namespace, policy, rng) {
        Err(problems) => Decision::Refused(Answer::refused_for(403, &problems)),
        Ok(Injection::Skipped { why, is_unmet }) => Decision::Skipped { why, is_unmet },
        Ok(Injection::Injected { pod: injected, warnings, .. }) => {
            let mut injected = *injected;
            let mut read = pod.clone();
            // Ours to read, not ours to write: the API server fills it in.
            let is_named = request.object.pointer("/metadata/namespace").is_some();
            if !is_named {
                injected.metadata.namespace = None;
                read.metadata.namespace = None;
            }
            let patch = patch(&request.object, &to_value(&read), to_value(&injected));
            if let Err(error) = check(&request.object, &patch, &injected) {
                let message = format!("the mesh cannot add its sidecar to this pod: {error}; please report it");
                return Decision::Refused(Answer::refused(500, message));
            }
            let warnings = warnings.iter().map(ToString::to_string).collect();
            Decision::Injected(Answer { patch: Some(patch), warnings, refusal: None })
        }
    }
}

/// A patch that does not come to what was meant would let a pod start half meshed.
fn check(raw: &Value, patch: &json_patch::Patch, injected: &k8s::Pod) -> Result<(), String> {
    let mut patched = raw.clone();
    json_patch::patch(&mut patched, patch).map_err(|error| error.to_string())?;
    let patched: k8s::Pod = serde_json::from_value(patched).map_err(|error| error.to_string())?;
    if patched == *injected { Ok(()) } else { Err("the patch does not come to what was meant".to_owned()) }
}

fn to_value(pod: &k8s::Pod) -> Value {
    serde_json::to_value(pod).expect("Kubernetes types have string keys only, so they are JSON")
}

#[cfg(test)]
mod tests;
