//! Pods that wait, said where their owners look: the condition `openservicemesh.io/StartupGate`, and an Event once for
//! each reason that has lasted. What the agent says counts first; of a pod whose agent has said nothing, its object and
//! its status tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Api, Client, Error};
use osm_api::{NamespacedName, is_injected, is_over, k8s};
use osm_model::PodName;
use osm_runtime::clock;
use osm_startup::{AgentReport, CONDITION, Missing, Reason, seen, standing};
use tokio_util::sync::CancellationToken;

use crate::event;
use crate::pod_conditions::{PodCondition, PodConditions, in_world};
use crate::proxies::Proxies;
use crate::startups::Startups;

/// Between two looks at all pods.
const INTERVAL: Duration = Duration::from_secs(1);

/// A start that goes well is over before; nobody wants to read of it.
const LASTING: SignedDuration = SignedDuration::from_secs(5);

/// Pods without a word from their agent that are looked at in one turn: each costs the API server a read.
const READS_MAX: usize = 20;

/// Before such a pod is looked at again.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Events in one turn.
const EVENTS_MAX: usize = 10;

/// For one request.
const LIMIT: Duration = Duration::from_secs(5);

/// What the watch works with.
pub(crate) struct Watch {
    pub(crate) proxies: Proxies,
    pub(crate) startups: Startups,
    pub(crate) conditions: PodConditions,
    /// None where there is no API server.
    pub(crate) client: Option<Client>,
}

/// What is remembered of pods that exist.
#[derive(Debug, Default)]
struct Memory {
    /// Status of pods without a word from their agent, and when it was read.
    read: BTreeMap<String, (Timestamp, k8s::Pod)>,
    /// Events that were written, by uid and reason.
    said: BTreeSet<(String, String)>,
}

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its gate is open.
    Open,
    /// It waits.
    Held(Missing),
    /// Nothing that is known here says so or so.
    Unknown,
}

impl Watch {
    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut memory = Memory::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return Ok(()),
            }
            stop.run_until_cancelled(self.look(&mut memory)).await;
        }
    }

    async fn look(&self, memory: &mut Memory) {
        let Some(snapshot) = self.proxies.snapshot() else { return };
        let now = clock::now();
        let pods = || snapshot.world.pods.iter().filter(|(_, pod)| is_injected(pod) && !is_over(pod));
        let (mut reads, mut events) = (READS_MAX, EVENTS_MAX);
        for (name, pod) in pods() {
            let heard = self.startups.heard(&PodName { namespace: name.namespace.clone(), name: name.name.clone() });
            let report = heard.as_ref().map(|heard| &heard.report);
            if report.is_none() && is_left_alone(pod) {
                continue;
            }
            let read = if report.is_none() { self.read(memory, name, pod, &mut reads, now).await } else { None };
            let verdict = verdict(pod, report, read.as_ref(), now);
            if let Some(condition) = condition(&verdict) {
                self.conditions.set(pod, condition);
            }
            if let Verdict::Held(missing) = &verdict
                && now.duration_since(missing.since) >= LASTING
                && events > 0
                && self.say(memory, pod, missing, now).await
            {
                events -= 1;
            }
        }
        let uids: BTreeSet<&str> = pods().filter_map(|(_, pod)| pod.metadata.uid.as_deref()).collect();
        memory.read.retain(|uid, _| uids.contains(uid.as_str()));
        memory.said.retain(|(uid, _)| uids.contains(uid.as_str()));
        self.startups.keep(|pod| snapshot.world.pods.contains_key(&NamespacedName::new(&pod.namespace, &pod.name)));
    }

    /// The status of a pod that should have been heard of: what the World keeps of it is too little.
    async fn read(
        &self,
        memory: &mut Memory,
        name: &NamespacedName,
        pod: &k8s::Pod,
        reads: &mut usize,
        now: Timestamp,
    ) -> Option<k8s::Pod> {
        let client = self.client.clone()?;
        let uid = pod.metadata.uid.clone()?;
        if now.duration_since(created(pod, now)) < LASTING {
            return None;
        }
        let known = memory.read.get(&uid);
        if known.is_some_and(|(at, _)| now.duration_since(*at) < READ_AGAIN) || *reads == 0 {
            return known.map(|(_, pod)| pod.clone());
        }
        *reads -= 1;
        let api: Api<k8s::Pod> = Api::namespaced(client, &name.namespace);
        let found = tokio::time::timeout(LIMIT, api.get(&name.name)).await.ok()?.ok()?;
        memory.read.insert(uid, (now, found.clone()));
        Some(found)
    }

    /// Writes an Event, once for each reason; whether it tried.
    async fn say(&self, memory: &mut Memory, pod: &k8s::Pod, missing: &Missing, now: Timestamp) -> bool {
        let Some(client) = self.client.clone() else { return false };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if !memory.said.insert((uid, missing.reason.clone())) {
            return false;
        }
        let event = event(pod, missing, now);
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<k8s::Event>::namespaced(client, &namespace);
        match tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            // Another replica was first.
            Ok(Err(Error::Api(status))) if status.is_already_exists() => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = missing.reason, "an Event could not be written"),
            Err(_) => tracing::warn!(reason = missing.reason, "an Event could not be written in time"),
        }
        true
    }
}

/// How the pod stands, from what its agent said, or else from what was read of it.
fn verdict(pod: &k8s::Pod, report: Option<&AgentReport>, read: Option<&k8s::Pod>, now: Timestamp) -> Verdict {
    let of_object = standing(&seen(read.unwrap_or(pod), &[], now), report, now);
    let all = of_object.missing.iter().chain(&of_object.warnings);
    if let Some(order) = all.into_iter().find(|missing| missing.is(Reason::OrderChanged)) {
        return Verdict::Held(order.clone());
    }
    match report {
        Some(report) if report.is_programmed => Verdict::Open,
        Some(report) => report.missing.first().map_or(Verdict::Unknown, |missing| Verdict::Held(missing.clone())),
        // Without a status nothing can be said of its containers.
        None if read.is_none() => Verdict::Unknown,
        None => of_object.missing.first().map_or(Verdict::Unknown, |missing| Verdict::Held(missing.clone())),
    }
}

/// Whether another replica, or this one before it was started again, has heard of the pod: then what it wrote counts.
fn is_left_alone(pod: &k8s::Pod) -> bool {
    let Some(written) = in_world(pod, CONDITION) else { return false };
    let is_from_outside =
        written.reason.as_deref().is_some_and(|reason| OF_OUTSIDE.iter().any(|it| it.name() == reason));
    written.status == "True" || !is_from_outside
}

/// What is told from a pod's object and status alone.
const OF_OUTSIDE: [Reason; 10] = [
    Reason::Unscheduled,
    Reason::OrderChanged,
    Reason::ImageMissing,
    Reason::InitFailed,
    Reason::PortInUse,
    Reason::StateDirUnusable,
    Reason::OutOfMemory,
    Reason::SidecarEnded,
    Reason::SidecarSilent,
    Reason::SidecarPending,
];

fn condition(verdict: &Verdict) -> Option<PodCondition> {
    match verdict {
        Verdict::Unknown => None,
        Verdict::Open => {
            let message = "the sidecar is programmed".to_owned();
            Some(PodCondition { type_: CONDITION, is_true: true, reason: "Programmed", message })
        }
        Verdict::Held(missing) => {
            // An agent may be newer than this controller.
            let reason = Reason::of_code(&missing.reason).map_or("Held", Reason::name);
            Some(PodCondition { type_: CONDITION, is_true: false, reason, message: missing.to_string() })
        }
    }
}

/// The same for the same pod and reason.
fn event(pod: &k8s::Pod, missing: &Missing, now: Timestamp) -> k8s::Event {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let by_content = event::name_by_content(&name, (&pod.metadata.uid, &missing.reason));
    let about = k8s::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..k8s::ObjectReference::default()
    };
    let reason = Reason::of_code(&missing.reason).map_or("Held", Reason::name).to_owned();
    event::warning(about, by_content, reason, event::cut(&format!("the pod waits: {missing}")), now)
}

fn created(pod: &k8s::Pod, now: Timestamp) -> Timestamp {
    pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0)
}

#[cfg(test)]
mod tests;
