//! What other webhooks have made of a pod after us. Pure.
//!
//! We are asked again when another webhook changes a pod after us, but once only: one that is asked again itself has the
//! last word. What it must not have is a pod whose connections go past the mesh, or that waits for ever.

use osm_api::k8s;
use osm_runtime::clock;
use osm_startup::{Missing, Reason, seen, standing};
use serde_json::Value;

use super::review::Answer;

/// Decides about a pod, which came as `object`, that we would leave as `wished` has it.
pub(super) fn check(object: &Value, pod: &k8s::Pod, wished: &Answer) -> Answer {
    let Some(wrong) = culprit(pod) else { return Answer::allowed() };
    // What its user wants to run before redirection is in the way as well, and in its place.
    if patched(object, wished).as_ref().and_then(culprit).as_ref() == Some(&wrong) {
        return Answer::allowed();
    }
    let (code, advice) = (Reason::OrderChanged.code(), Reason::OrderChanged.advice());
    Answer::refused(403, format!("{wrong} ({code}), so the pod is not made; {advice}"))
}

/// What is wrong with the order of a pod of the mesh.
fn culprit(pod: &k8s::Pod) -> Option<String> {
    let now = clock::now();
    let seen = seen(pod, &[], now);
    if seen.shape.is_none() {
        return Some("another webhook took the mesh's sidecar out of the pod".to_owned());
    }
    let missing = standing(&seen, None, now).missing.into_iter();
    missing.filter(|missing| missing.is(Reason::OrderChanged)).map(|Missing { what, .. }| what).next()
}

fn patched(object: &Value, wished: &Answer) -> Option<k8s::Pod> {
    let mut object = object.clone();
    json_patch::patch(&mut object, wished.patch.as_ref()?).ok()?;
    serde_json::from_value(object).ok()
}
