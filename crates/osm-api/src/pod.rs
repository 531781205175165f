//! What everybody asks a pod.

use crate::{INJECTED, k8s};

/// Whether it has a sidecar of a mesh.
pub fn is_injected(pod: &k8s::Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(INJECTED))
}

/// Whether all of its containers have ended for good.
pub fn is_over(pod: &k8s::Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(is_last_phase)
}

/// Whether no other phase follows this one.
pub(crate) fn is_last_phase(phase: &str) -> bool {
    ["Succeeded", "Failed"].contains(&phase)
}
