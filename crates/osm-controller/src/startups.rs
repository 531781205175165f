//! `POST /v1/startup`: an agent says how its pod's start stands, and is told what only we know of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use osm_api::{MONITORED_BY, NamespacedName, World, k8s};
use osm_model::PodName;
use osm_runtime::clock;
use osm_startup::{AgentReport, Reason, phases, seen};
use serde::Serialize;

use crate::caller::{RateLimit, Refusal, Verifier};
use crate::metrics::Metrics;
use crate::proxies::{Proxies, Proxy};

/// Where reports are taken.
const PATH: &str = "/v1/startup";

/// A report with every restart of Envoy that is kept takes about 10 kB.
const BODY_BYTES_LIMIT: usize = 64 << 10;

/// Reports that are kept at most; beyond them, pods say what they wait for on their own pages only.
const HEARD_MAX: usize = 50_000;

/// Takes reports. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Startups {
    verifier: Arc<Verifier>,
    proxies: Proxies,
    metrics: Metrics,
    mesh_name: String,
    limit: Arc<RateLimit>,
    heard: Arc<Mutex<BTreeMap<PodName, Heard>>>,
}

/// What an agent said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// In its words.
    pub(crate) report: AgentReport,
    /// When.
    pub(crate) at: Timestamp,
    /// Whether its start has been measured.
    is_measured: bool,
}

/// What is in a pod's way, and only we know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Obstacle {
    reason: Reason,
    what: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    obstacle: Option<Obstacle>,
}

impl Startups {
    /// Nothing has been heard yet.
    pub(crate) fn new(verifier: Arc<Verifier>, proxies: Proxies, metrics: Metrics, mesh_name: String) -> Startups {
        // A held pod reports once a second at first.
        let limit = Arc::new(RateLimit::new(60, Duration::from_millis(500)));
        Startups { verifier, proxies, metrics, mesh_name, limit, heard: Arc::default() }
    }

    /// The route.
    pub(crate) fn router(self) -> Router {
        Router::new().route(PATH, post(take)).layer(DefaultBodyLimit::max(BODY_BYTES_LIMIT)).with_state(self)
    }

    /// What the agent of a pod said last.
    pub(crate) fn heard(&self, pod: &PodName) -> Option<Heard> {
        self.lock().get(pod).cloned()
    }

    /// Forgets all pods but these.
    pub(crate) fn keep(&self, exists: impl Fn(&PodName) -> bool) {
        self.lock().retain(|pod, _| exists(pod));
    }

    fn take_in(&self, caller: &Proxy, report: AgentReport) {
        let pod = self.proxies.snapshot().and_then(|snapshot| snapshot.world.pods.get(&name(&caller.pod)).cloned());
        let mut heard = self.lock();
        if heard.len() >= HEARD_MAX && !heard.contains_key(&caller.pod) {
            return;
        }
        // A sidecar that was started again has no start of the pod to tell of.
        let before = heard.get(&caller.pod);
        let is_measured = before.is_some_and(|heard| heard.is_measured);
        let measured = pod.filter(|_| !is_measured && report.is_programmed);
        if let Some(pod) = &measured {
            self.measure(pod, &report);
        }
        let is_measured = is_measured || measured.is_some();
        heard.insert(caller.pod.clone(), Heard { report, at: clock::now(), is_measured });
    }

    fn measure(&self, pod: &k8s::Pod, report: &AgentReport) {
        let mut steps = seen(pod, &[], clock::now()).steps;
        steps.extend(report.steps());
        for (phase, length) in phases(&steps) {
            self.metrics.observe_startup(phase, length.as_secs_f64());
        }
    }

    /// What is in the caller's way.
    fn obstacle(&self, caller: &Proxy) -> Option<Obstacle> {
        let Some(snapshot) = self.proxies.snapshot() else {
            let what = "the controller has not read the cluster's objects yet".to_owned();
            return Some(Obstacle { reason: Reason::ControllerOutOfSync, what });
        };
        if snapshot.mesh.proxies.get(&caller.pod).is_some_and(|class| class.identity == caller.identity) {
            return None;
        }
        Some(outside(&snapshot.world, caller, &self.mesh_name))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodName, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(startups): State<Startups>, headers: HeaderMap, body: Bytes) -> Response {
    let caller = match startups.verifier.authenticate(&headers).await {
        Ok(caller) => caller,
        Err(refusal) => return refused(&refusal),
    };
    if let Err(refusal) = startups.limit.admit(&caller, clock::monotonic()) {
        return refused(&refusal);
    }
    let report: AgentReport = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            let said = serde_json::json!({ "error": format!("not a report: {error}") });
            return (StatusCode::BAD_REQUEST, Json(said)).into_response();
        }
    };
    startups.take_in(&caller, report);
    Json(Answer { obstacle: startups.obstacle(&caller) }).into_response()
}

fn refused(refusal: &Refusal) -> Response {
    let said = serde_json::json!({ "error": refusal.to_string(), "reason": refusal.reason() });
    (refusal.status(), Json(said)).into_response()
}

/// Why the mesh does not have this pod.
fn outside(world: &World, caller: &Proxy, mesh_name: &str) -> Obstacle {
    let Some(pod) = world.pods.get(&name(&caller.pod)) else {
        let what = format!("the controller does not know pod {} yet", caller.pod);
        return Obstacle { reason: Reason::PodUnknown, what };
    };
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let of_token = &caller.identity.service_account;
    if account != of_token {
        let what = format!("pod {} runs as service account {account}, and its token is of {of_token}", caller.pod);
        return Obstacle { reason: Reason::AccountMismatch, what };
    }
    let namespace = &caller.pod.namespace;
    let labels = world.namespaces.get(namespace).and_then(|namespace| namespace.metadata.labels.as_ref());
    let mesh = labels.and_then(|labels| labels.get(MONITORED_BY));
    if mesh.is_none_or(|mesh| mesh != mesh_name) {
        let what = format!(
            "namespace {namespace} is not in the mesh {mesh_name}: it has no label {MONITORED_BY}: {mesh_name}"
        );
        return Obstacle { reason: Reason::NamespaceNotInMesh, what };
    }
    let what = format!("the mesh does not have pod {}: it was not injected by it, or is over", caller.pod);
    Obstacle { reason: Reason::PodUnknown, what }
}

fn name(pod: &PodName) -> NamespacedName {
    NamespacedName::new(&pod.namespace, &pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::ManifestSet;
    use osm_model::Identity;

    fn check(manifests: &str, account: &str, reason: Reason, words: &str) {
        let mut world = World::default();
        let update = ManifestSet::default().put("m.yaml", manifests);
        update.changes.into_iter().for_each(|change| {
            world.apply(change);
        });
        let pod = PodName { namespace: "shop".into(), name: "web".into() };
        let identity = Identity { namespace: "shop".into(), service_account: account.into() };
        let found = outside(&world, &Proxy { pod, identity }, "osm");
        assert_eq!(found.reason, reason, "{found:?}");
        assert!(found.what.contains(words), "{found:?}");
    }

    #[test]
    fn a_pod_that_the_mesh_does_not_have_is_told_why() {
        let namespace = |labels: &str| {
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{labels}}}}}}}\n---\n")
        };
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, \
                   spec: {serviceAccountName: web, containers: [{name: a}]}}";
        let in_mesh = namespace("openservicemesh.io/monitored-by: osm");
        check(&in_mesh, "web", Reason::PodUnknown, "does not know pod shop/web yet");
        check(&(in_mesh + pod), "other", Reason::AccountMismatch, "runs as service account web");
        check(&(namespace("") + pod), "web", Reason::NamespaceNotInMesh, "namespace shop is not in the mesh osm");
    }
}
