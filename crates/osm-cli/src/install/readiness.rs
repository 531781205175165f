//! Whether an installed mesh is ready; if not, what it waits for, or why it will not get ready.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use osm_local::Failure;

/// So many restarts in a row are no accident.
const RESTART_LIMIT: i32 = 3;

/// What the cluster says of a mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// The controller's Deployment.
    pub(super) deployment: Option<Deployment>,
    /// The controller's pods.
    pub(super) pods: Vec<Pod>,
    /// Names of webhook configurations whose `caBundle` is empty.
    pub(super) webhooks_without_authority: Vec<String>,
    /// The last lines of a container that ended, when there is one.
    pub(super) last_words: String,
}

/// What to make of it.
#[derive(Debug)]
pub(super) enum Verdict {
    Ready,
    /// What for, in words.
    Waiting(String),
    Failed(Failure),
}

/// Judges.
pub(super) fn judge(observed: &Observed) -> Verdict {
    let Some(deployment) = &observed.deployment else {
        return Verdict::Waiting("for the Deployment osm-controller".into());
    };
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Verdict::Waiting("for the cluster to look at the Deployment osm-controller".into());
    }
    let pods = newest(&observed.pods);
    if let Some(failure) = pods.iter().find_map(|pod| pod_failure(pod, &observed.last_words)) {
        return Verdict::Failed(failure);
    }
    if let Some(failure) = refused(deployment) {
        return Verdict::Failed(failure);
    }
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or_default();
    // Replicas of the version before are available too.
    let is_replaced = status.replicas.unwrap_or_default() == updated;
    let available = status.available_replicas.unwrap_or_default();
    if updated < wanted || !is_replaced || available < wanted {
        let waits: Vec<String> = pods.iter().filter_map(|pod| waits_for(pod)).collect();
        let of_pods = if waits.is_empty() { String::new() } else { format!(": {}", waits.join("; ")) };
        return Verdict::Waiting(format!("for the controller, {} of {wanted} ready{of_pods}", available.min(updated)));
    }
    match observed.webhooks_without_authority.as_slice() {
        [] => Verdict::Ready,
        names => Verdict::Waiting(format!("for the controller to complete {}", names.join(", "))),
    }
}

/// The pods of the newest template. Those of the one before may be broken, and an upgrade may be what mends it.
fn newest(pods: &[Pod]) -> Vec<&Pod> {
    let template = |pod: &Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash").cloned());
    let last = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    pods.iter().filter(|pod| last.is_some_and(|last| template(last) == template(pod))).collect()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten()
}

fn name(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// What no waiting will mend.
fn pod_failure(pod: &Pod, last_words: &str) -> Option<Failure> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let said = waiting.message.as_deref().unwrap_or_default();
        let (pod, image) = (name(pod), &container.image);
        match reason {
            "ErrImageNeverPull" | "ImagePullBackOff" | "InvalidImageName" => Some(Failure {
                message: format!("pod {pod}: image {image} cannot be had: {reason}: {said}"),
                hint:
                    "name one that the nodes can pull: --set osm.image.registry=REGISTRY --set osm.image.tag=TAG, with \
                       --set osm.imagePullSecrets[0].name=SECRET if the registry asks who you are; or put it on every \
                       node and --set osm.image.pullPolicy=Never"
                        .into(),
            }),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Failure {
                message: format!("pod {pod}: container {} cannot be started: {reason}: {said}", container.name),
                hint: format!("see more of it: kubectl describe pod {}", of_namespace(&pod)),
            }),
            "CrashLoopBackOff" if container.restart_count >= RESTART_LIMIT => {
                let words =
                    if last_words.is_empty() { String::new() } else { format!("; its last words:\n{last_words}") };
                let times = container.restart_count;
                Some(Failure {
                    message: format!("pod {pod}: container {} ended {times} times{words}", container.name),
                    hint: format!("see all it said: kubectl logs --previous {}", of_namespace(&pod)),
                })
            }
            _ => None,
        }
    })
}

fn of_namespace(pod: &str) -> String {
    match pod.split_once('/') {
        Some((namespace, name)) => format!("-n {namespace} {name}"),
        None => pod.to_owned(),
    }
}

/// Pods that may not even be created: a quota, Pod Security, somebody's webhook.
fn refused(deployment: &Deployment) -> Option<Failure> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failing = conditions
        .iter()
        .find(|it| it.type_.as_deref() == Some("ReplicaFailure") && it.status.as_deref() == Some("True"))?;
    let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
    Some(Failure {
        message: format!(
            "the controller's pods are refused: {}",
            failing.message.as_deref().or(failing.reason.as_deref()).unwrap_or("no reason is given")
        ),
        hint: format!("see who refuses: kubectl get events -n {namespace} --field-selector reason=FailedCreate"),
    })
}

/// What a pod waits for, if it is not ready.
fn waits_for(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.clone().unwrap_or_default();
    let is = |kind: &str, value: &str| conditions.iter().find(|it| it.type_ == kind && it.status == value);
    if is("Ready", "True").is_some() || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    if let Some(unscheduled) = is("PodScheduled", "False") {
        return Some(format!("{name} has no node: {}", unscheduled.message.clone().unwrap_or_default()));
    }
    let waiting = containers(pod).find_map(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = status.phase.clone().unwrap_or_default();
    Some(match waiting {
        Some(reason) => format!("{name} {reason}"),
        None if phase == "Running" => format!("{name} runs but is not ready"),
        None => format!("{name} {phase}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(available: i32, generation: i64) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "osm-controller", "namespace": "osm-system", "generation": generation},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available},
        }))
        .unwrap()
    }

    fn pod(state: serde_json::Value, restarts: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "osm-controller-1", "namespace": "osm-system"},
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "osm-controller", "image": "reg/osm-controller:v1", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state,
            }]},
        }))
        .unwrap()
    }

    fn check(observed: Observed, expected: &str) {
        let text = match judge(&observed) {
            Verdict::Ready => "ready".to_owned(),
            Verdict::Waiting(what) => format!("waiting {what}"),
            Verdict::Failed(failure) => format!("failed: {} | {}", failure.message, failure.hint),
        };
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_mesh_is_ready_when_the_controller_serves_and_its_webhooks_are_trusted() {
        let ready = Observed { deployment: Some(deployment(1, 1)), ..Observed::default() };
        check(ready.clone(), "ready");
        check(Observed::default(), "waiting for the Deployment");
        let unseen = Observed { deployment: Some(deployment(1, 2)), ..Observed::default() };
        check(unseen, "waiting for the cluster to look at the Deployment");
        let webhook = vec!["osm-webhook-osm".to_owned()];
        check(Observed { webhooks_without_authority: webhook, ..ready }, "complete osm-webhook-osm");
        let creating = pod(json!({"waiting": {"reason": "ContainerCreating"}}), 0);
        let starting = Observed { deployment: Some(deployment(0, 1)), pods: vec![creating], ..Observed::default() };
        check(starting, "waiting for the controller, 0 of 1 ready: osm-controller-1 ContainerCreating");
    }

    #[test]
    fn an_upgrade_is_not_judged_by_the_pods_that_it_replaces() {
        let of = |hash: &str, time: &str, reason: &str| {
            let mut pod = pod(json!({"waiting": {"reason": reason}}), 0);
            pod.metadata.labels = Some([("pod-template-hash".to_owned(), hash.to_owned())].into());
            pod.metadata.creation_timestamp = serde_json::from_value(json!(time)).unwrap();
            pod
        };
        let pods = vec![
            of("new", "2026-01-01T00:00:02Z", "ContainerCreating"),
            of("old", "2026-01-01T00:00:01Z", "ImagePullBackOff"),
        ];
        check(
            Observed { deployment: Some(deployment(0, 1)), pods, ..Observed::default() },
            "waiting for the controller",
        );
    }

    #[test]
    fn what_waiting_does_not_mend_ends_it() {
        let of = |pod: Pod| Observed {
            deployment: Some(deployment(0, 1)),
            pods: vec![pod],
            last_words: "error: no".into(),
            ..Observed::default()
        };
        let never = json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}});
        let expected = "failed: pod osm-system/osm-controller-1: image reg/osm-controller:v1 cannot be had: \
                        ErrImageNeverPull: not present | name one that the nodes can pull";
        check(of(pod(never, 0)), expected);
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(of(pod(crash.clone(), 1)), "waiting");
        check(of(pod(crash, 3)), "ended 3 times; its last words:\nerror: no");
        let mut refused = deployment(0, 1);
        refused.status.as_mut().unwrap().conditions =
            serde_json::from_value(json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]))
                .unwrap();
        let refused = Observed { deployment: Some(refused), ..Observed::default() };
        check(refused, "failed: the controller's pods are refused: exceeded quota");
    }
}
