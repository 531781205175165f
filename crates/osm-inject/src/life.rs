//! What the pod's life asks of the sidecar: when it counts as ready, and how it ends.

use osm_api::{PEERS_READY, k8s};

use crate::Shape;
use crate::containers::variable;

/// Has the pod become ready only when its peers know of it, unless it has that gate already.
pub(crate) fn add_gate(spec: &mut k8s::PodSpec) {
    let gates = spec.readiness_gates.get_or_insert_default();
    if gates.iter().all(|gate| gate.condition_type != PEERS_READY) {
        gates.push(k8s::PodReadinessGate { condition_type: PEERS_READY.to_owned() });
    }
}

/// The agent's variables about the pod's end.
pub(crate) fn variables(spec: &k8s::PodSpec, shape: Shape) -> Vec<k8s::EnvVar> {
    let completes = matches!(spec.restart_policy.as_deref(), Some("Never" | "OnFailure"));
    let mut variables = Vec::new();
    match shape {
        // Kubernetes tells all containers at once to end, and waits for all of them before the pod completes.
        Shape::Init => {
            variables.push(variable("OSM_STOPS_WITH_APPLICATION", "true"));
            let grace = spec.termination_grace_period_seconds;
            variables.extend(grace.map(|seconds| variable("OSM_GRACE_SECONDS", &seconds.max(0).to_string())));
            variables.extend(completes.then(|| variable("OSM_QUIT", "obey")));
        }
        // Kubernetes tells the sidecar last, and does not wait for it.
        Shape::Native | Shape::Merged => variables.extend(completes.then(|| variable("OSM_QUIT", "ignore"))),
    }
    variables
}
