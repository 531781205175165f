//! The conditions that the controller writes into the status of pods: in a cluster through the API server, on one
//! machine through the runner. It is the only writer of the types it is given.
//!
//! How to use it: [`PodConditions::set`] with the pod as it is in the World, and the [`PodCondition`] that shall hold.
//! Call it as often as you like, whenever you look: a condition that is written already, by this process or an earlier
//! one, is not written again; of several that are set before the writer comes to the pod, the last of each type counts,
//! and all types of one pod go in one write. A message should hold nothing that changes by itself, such as an age: each
//! change is a write. Writes are at most [`WRITES_PER_SECOND`]; what fails is tried again as long as the pod is there.
//! Call [`PodConditions::keep`] after each publication, so that pods that went are forgotten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Error};
use osm_api::{NamespacedName, k8s};
use osm_runtime::clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pods that are written in a second: a restart of a large mesh must not keep the API server busy.
const WRITES_PER_SECOND: u32 = 100;

/// Before a write that failed is tried again, with all others behind it: what refuses one refuses all.
const RETRY: Duration = Duration::from_secs(1);

/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The longest message that is written, in bytes; Kubernetes takes 32,768.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The longest answer of a runner, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A condition that shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodCondition {
    /// Its type, as `openservicemesh.io/PeersReady`.
    pub(crate) type_: &'static str,
    /// Whether it is `True`; else it is `False`.
    pub(crate) is_true: bool,
    /// Why, in one word of letters.
    pub(crate) reason: &'static str,
    /// Why, in a sentence.
    pub(crate) message: String,
}

/// Where conditions are written.
#[derive(Clone)]
pub(crate) enum Sink {
    /// The API server of a cluster.
    Cluster(Client),
    /// The socket of the runner that started this process.
    Runner(PathBuf),
}

/// Takes conditions for the writer. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodConditions {
    state: Arc<Mutex<State>>,
    is_due: Arc<Notify>,
}

/// A pod; one of the same name that came later has another uid.
type PodKey = (NamespacedName, String);

/// Bounded by the pods of the World: see [`PodConditions::keep`].
#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<PodKey, BTreeMap<&'static str, Wanted>>,
}

#[derive(Debug)]
struct Wanted {
    condition: PodCondition,
    /// Since when it is true or false.
    since: Timestamp,
    is_written: bool,
}

impl PodConditions {
    /// Has this condition hold for this pod from now on.
    pub(crate) fn set(&self, pod: &k8s::Pod, mut condition: PodCondition) {
        let cut = condition.message.floor_char_boundary(MESSAGE_BYTES_MAX);
        condition.message.truncate(cut);
        let Some(key) = key(pod) else { return };
        let is_due = self.lock().set(key, in_world(pod, condition.type_), condition, clock::now());
        if is_due {
            self.is_due.notify_one();
        }
    }

    /// Forgets every pod but these.
    pub(crate) fn keep(&self, mut exists: impl FnMut(&NamespacedName, &str) -> bool) {
        self.lock().pods.retain(|(name, uid), _| exists(name, uid));
    }

    /// Writes what is set, until `stop`.
    pub(crate) async fn run(self, sink: Sink, stop: CancellationToken) -> anyhow::Result<()> {
        let write = async {
            loop {
                let due = self.lock().take_due();
                let Some((key, conditions)) = due else {
                    self.is_due.notified().await;
                    continue;
                };
                let types: Vec<String> = conditions.iter().map(|condition| condition.type_.clone()).collect();
                let written = tokio::time::timeout(WRITE_LIMIT, sink.write(&key, conditions)).await;
                match written.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {WRITE_LIMIT:?}"))) {
                    Ok(()) => tokio::time::sleep(Duration::from_secs(1) / WRITES_PER_SECOND).await,
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(pod = %key.0, ?types, error, "conditions are not written; tried again");
                        self.lock().is_due_again(&key, &types);
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        tokio::select! {
            () = write => Ok(()),
            () = stop.cancelled() => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is something to write now.
    fn set(
        &mut self,
        key: PodKey,
        in_world: Option<&k8s::PodCondition>,
        condition: PodCondition,
        now: Timestamp,
    ) -> bool {
        let of_pod = self.pods.entry(key).or_default();
        let since = match of_pod.get(condition.type_) {
            Some(wanted) if wanted.condition == condition => return false,
            Some(wanted) if wanted.condition.is_true == condition.is_true => wanted.since,
            Some(_) | None => now,
        };
        let is_first = !of_pod.contains_key(condition.type_);
        let is_written = is_first && in_world.is_some_and(|written| is_same(written, &condition));
        of_pod.insert(condition.type_, Wanted { condition, since, is_written });
        !is_written
    }

    /// A pod with something to write, all of which now counts as written.
    fn take_due(&mut self) -> Option<(PodKey, Vec<k8s::PodCondition>)> {
        let is_due = |of_pod: &BTreeMap<&'static str, Wanted>| of_pod.values().any(|wanted| !wanted.is_written);
        let (key, of_pod) = self.pods.iter_mut().find(|(_, of_pod)| is_due(of_pod))?;
        let due = of_pod.values_mut().filter(|wanted| !wanted.is_written).map(|wanted| {
            wanted.is_written = true;
            on_wire(&wanted.condition, wanted.since)
        });
        Some((key.clone(), due.collect()))
    }

    fn is_due_again(&mut self, key: &PodKey, types: &[String]) {
        let of_pod = self.pods.get_mut(key).into_iter().flatten();
        let again = of_pod.filter(|(type_, _)| types.iter().any(|it| it.as_str() == **type_));
        again.for_each(|(_, wanted)| wanted.is_written = false);
    }
}

impl Sink {
    async fn write(&self, key: &PodKey, conditions: Vec<k8s::PodCondition>) -> anyhow::Result<()> {
        let (name, uid) = key;
        match self {
            Sink::Cluster(client) => {
                let pods: Api<k8s::Pod> = Api::namespaced(client.clone(), &name.namespace);
                // Conditions are merged by their type; another uid makes it a conflict.
                let patch = json!({ "metadata": { "uid": uid }, "status": { "conditions": conditions } });
                let patched = pods.patch_status(&name.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                match patched {
                    Ok(_) => Ok(()),
                    // The pod is gone, or another one has its name.
                    Err(Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                    Err(error) => Err(error).context("patching the status of a pod"),
                }
            }
            Sink::Runner(socket) => {
                let request = json!({ "ask": "set-conditions", "pod": name, "uid": uid, "conditions": conditions });
                tell_runner(socket, &request).await.context("telling the runner")
            }
        }
    }
}

/// One line of JSON each way.
async fn tell_runner(socket: &Path, request: &Value) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(socket).await.context("connecting")?;
    let mut line = serde_json::to_vec(request).context("writing the request")?;
    line.push(b'\n');
    stream.write_all(&line).await.context("asking")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.context("waiting for the answer")?;
    let answer: Value = serde_json::from_slice(&answer).context("reading the answer")?;
    if answer["answer"] == "refused" {
        bail!("refused: {}", answer["message"]);
    }
    ensure!(answer["answer"] == "conditions-set", "not an answer to this: {answer}");
    Ok(())
}

fn key(pod: &k8s::Pod) -> Option<PodKey> {
    let metadata = &pod.metadata;
    let name = NamespacedName::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
    Some((name, metadata.uid.clone().unwrap_or_default()))
}

/// The pod's condition of a type, as it was read last.
pub(crate) fn in_world<'p>(pod: &'p k8s::Pod, type_: &str) -> Option<&'p k8s::PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn is_same(written: &k8s::PodCondition, condition: &PodCondition) -> bool {
    (written.status == "True") == condition.is_true
        && written.reason.as_deref() == Some(condition.reason)
        && written.message.as_deref() == Some(&condition.message)
}

fn on_wire(condition: &PodCondition, since: Timestamp) -> k8s::PodCondition {
    k8s::PodCondition {
        type_: condition.type_.to_owned(),
        status: if condition.is_true { "True" } else { "False" }.to_owned(),
        reason: Some(condition.reason.to_owned()),
        message: Some(condition.message.clone()),
        last_transition_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since)),
        ..k8s::PodCondition::default()
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sink::Cluster(_) => f.write_str("Cluster"),
            Sink::Runner(socket) => f.debug_tuple("Runner").field(socket).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
