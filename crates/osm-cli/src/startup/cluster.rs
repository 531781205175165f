//! Pods of a cluster: the object, its Events, and what the agent in it says, through the same door as `kubectl
//! port-forward`.

use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::StreamExt;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use kube::Api;
use kube::api::ListParams;
use osm_api::{NamespacedName, is_injected, k8s};
use osm_runtime::{clock, http};
use osm_startup::{AgentReport, Missing, STATUS_PATH, STATUS_PORT, denied, seen};

use super::{Startup, no_pod};
use crate::cluster::{Cluster, Failing};

/// For the agent's answer, with all that leads there.
const AGENT_LIMIT: Duration = Duration::from_secs(3);

/// The agent's page takes a few kilobytes.
const PAGE_LIMIT_BYTES: usize = 1 << 20;

/// Agents that are asked at a time.
const AT_A_TIME: usize = 16;

/// Events that are looked through.
const EVENTS_MAX: u32 = 500;

/// How one pod of a cluster started.
pub(super) async fn one(cluster: &Cluster, name: &NamespacedName) -> anyhow::Result<Startup> {
    let pods: Api<k8s::Pod> = Api::namespaced(cluster.client.clone(), &name.namespace);
    let found = pods.get_opt(&name.name).await;
    let found = found.map_err(|error| cluster.place.failing(&format!("reading pod {name}"), &error))?;
    let Some(pod) = found else {
        let said = never_made(cluster, name).await?;
        return said.ok_or_else(|| no_pod(name, &format!("kubectl get pods -n {}", name.namespace)));
    };
    // Whoever may not read Events is told the rest.
    let about = format!("involvedObject.name={}", name.name);
    let events = events(cluster, &name.namespace, &about).await.unwrap_or_default();
    let agent = ask(&pods, &pod).await;
    Ok(Startup::new(&seen(&pod, &events, clock::now()), agent.as_ref().ok()))
}

/// How every pod of the mesh started.
pub(super) async fn all(cluster: &Cluster, namespace: Option<&str>) -> anyhow::Result<Vec<Startup>> {
    let client = || cluster.client.clone();
    let pods: Api<k8s::Pod> = namespace.map_or_else(|| Api::all(client()), |name| Api::namespaced(client(), name));
    let listed = pods.list(&ListParams::default()).await;
    let listed = listed.map_err(|error| cluster.place.failing("listing pods", &error))?;
    let asked = listed.items.into_iter().filter(is_injected).map(|pod| async move {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let agent = ask(&Api::namespaced(client(), &namespace), &pod).await;
        Startup::new(&seen(&pod, &[], clock::now()), agent.as_ref().ok())
    });
    Ok(futures::stream::iter(asked).buffer_unordered(AT_A_TIME).collect().await)
}

/// What Events say of a pod that was never made: the name may be that of the ReplicaSet or Job, or begin with it.
async fn never_made(cluster: &Cluster, name: &NamespacedName) -> anyhow::Result<Option<Startup>> {
    let events = events(cluster, &name.namespace, "reason=FailedCreate").await?;
    let of_it = |event: &&k8s::Event| {
        let owner = event.involved_object.name.as_deref().unwrap_or_default();
        !owner.is_empty() && (name.name.starts_with(owner) || owner.starts_with(&name.name))
    };
    let Some(denied) = denied(events.iter().filter(of_it)) else { return Ok(None) };
    let missing = Missing::new(denied.reason, format!("the pod was not made: {}", denied.what), denied.since);
    let age = clock::now().duration_since(denied.since);
    Ok(Some(Startup {
        pod: name.to_string(),
        shape: None,
        created: denied.since,
        is_programmed: None,
        is_ready: false,
        steps: Vec::new(),
        phases: Vec::new(),
        missing: vec![missing],
        warnings: Vec::new(),
        age_ms: age.as_millis().try_into().unwrap_or(i64::MAX),
    }))
}

async fn events(cluster: &Cluster, namespace: &str, selector: &str) -> anyhow::Result<Vec<k8s::Event>> {
    let api: Api<k8s::Event> = Api::namespaced(cluster.client.clone(), namespace);
    let listed = api.list(&ListParams::default().fields(selector).limit(EVENTS_MAX)).await;
    Ok(listed.map_err(|error| cluster.place.failing("reading Events", &error))?.items)
}

/// What the agent of a pod says. One that has not started, or that nothing leads to, says nothing: then the pod's own
/// status is all there is.
async fn ask(pods: &Api<k8s::Pod>, pod: &k8s::Pod) -> anyhow::Result<AgentReport> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let asking = async {
        let mut forwarder = pods.portforward(name, &[STATUS_PORT]).await.context("forwarding a port")?;
        let stream = forwarder.take_stream(STATUS_PORT).context("forwarding a port")?;
        let request = Request::get(STATUS_PATH).header(HOST, "localhost").body(Full::new(Bytes::new()))?;
        let limits = http::Limits { timeout: AGENT_LIMIT, body_bytes: PAGE_LIMIT_BYTES };
        let answer = http::exchange(stream, request, limits).await.context("asking the agent")?;
        serde_json::from_slice(answer.body()).context("reading the agent's answer")
    };
    tokio::time::timeout(AGENT_LIMIT, asking).await.map_err(|_| anyhow!("no answer within {AGENT_LIMIT:?}"))?
}
