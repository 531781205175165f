//! Peers first, drain last: whether those who reach a pod know that it is an endpoint, or that it is none any more.
//!
//! A pod that waits for its readiness gate gets the condition when every proxy that is connected here and has the pod
//! among its endpoints has answered for that. A pod that is to end is told, over its agent's stream, when none has it
//! any more. Both are bounded: see [`LIMIT`]. A proxy that is connected elsewhere is another controller's; it is given
//! [`ELSEWHERE`]. See decision 0043.

mod answers;
mod notices;
mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use osm_ads::Notice;
use osm_api::{NamespacedName, PEERS_READY, SIDECAR_CONTAINER, k8s};
use osm_model::PodName;
use osm_runtime::clock;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::answers::Answers;
pub(crate) use self::notices::Notices;
use self::reach::{Assignments, Place, Presence, current, elsewhere, has_ready_containers, is_terminating};
use crate::control::Snapshot;
use crate::pod_conditions::{PodCondition, PodConditions, in_world};
use crate::proxies::Proxies;

/// How long a pod waits for its peers at most. A proxy that lets it pass is not waited for again until it answers.
const LIMIT: Duration = Duration::from_secs(10);

/// How long proxies may take that are not connected here: another controller hears of a change when this one does, and
/// tells it as fast.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A wait that is longer than this is said in the condition.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// Between two looks at the time while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Answers that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(5);

/// A message names this many of the proxies that are waited for; the number says the rest.
const NAMED_PROXIES: usize = 3;

/// Watches over all pods.
#[derive(Debug)]
pub(crate) struct Peers {
    proxies: Proxies,
    answers: Answers,
    notices: Notices,
    conditions: PodConditions,
    snapshot: Option<Snapshot>,
    waiting: BTreeMap<Key, Waiting>,
    /// Those that do not wait any more.
    done: BTreeSet<Key>,
    read: Assignments,
}

/// A pod by its uid, and what its peers are to know.
type Key = (String, Presence);

/// A pod that waits.
#[derive(Debug)]
struct Waiting {
    pod: Arc<k8s::Pod>,
    name: PodName,
    place: Place,
    since: Instant,
    /// Who was to be told, once it could be.
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    /// The sessions that have not answered.
    awaited: BTreeSet<u64>,
    /// How many had to know.
    here: usize,
    elsewhere: usize,
}

/// What becomes of a pod that waits.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Its peers know.
    Known { message: String, reason: &'static str },
    /// They may not, and it has waited long enough.
    LimitReached(String),
    /// It goes on waiting.
    Waits(String),
}

impl Peers {
    /// Over the pods that `proxies` publishes.
    pub(crate) fn new(proxies: Proxies, answers: Answers, notices: Notices, conditions: PodConditions) -> Peers {
        Peers {
            proxies,
            answers,
            notices,
            conditions,
            snapshot: None,
            waiting: BTreeMap::new(),
            done: BTreeSet::new(),
            read: Assignments::default(),
        }
    }

    /// Watches until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut published = self.proxies.published();
        published.mark_changed();
        loop {
            let is_anybody_waiting = !self.waiting.is_empty();
            // All are cancel safe.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Ok(()) = published.changed() => self.take_snapshot(clock::monotonic()),
                () = self.answers.changed(), if is_anybody_waiting => sleep(TOGETHER).await,
                () = sleep(LOOK_AGAIN), if is_anybody_waiting => {}
            }
            self.judge(clock::monotonic());
        }
    }

    /// Looks through the pods for those that wait.
    fn take_snapshot(&mut self, now: Instant) {
        let Some(snapshot) = self.proxies.snapshot() else { return };
        let mut waiting = BTreeMap::new();
        let mut there = BTreeSet::new();
        for name in snapshot.mesh.proxies.keys() {
            let Some(pod) = snapshot.world.pods.get(&NamespacedName::new(&name.namespace, &name.name)) else {
                continue;
            };
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let key = (uid.clone(), if is_terminating(pod) { Presence::Absent } else { Presence::Present });
            let waits = is_terminating(pod) || (waits_at_gate(pod) && has_ready_containers(pod));
            if waits && !self.done.contains(&key) {
                let place = Place::of(pod, &snapshot.world, &snapshot.mesh);
                let before = self.waiting.remove(&key).filter(|before| before.place == place);
                let since = before.as_ref().map_or(now, |before| before.since);
                let told = before.and_then(|before| before.told);
                waiting.insert(key, Waiting { pod: pod.clone(), name: name.clone(), place, since, told });
            }
            self.tell(name, pod, &uid);
            there.insert(uid);
        }
        self.waiting = waiting;
        self.done.retain(|(uid, _)| there.contains(uid));
        self.conditions.keep(|_, uid| there.contains(uid));
        let is_there = |pod: &PodName| snapshot.mesh.proxies.contains_key(pod);
        self.notices.keep(is_there);
        self.snapshot = Some(snapshot);
    }

    /// Says to the pod's agent what is known of its pod.
    fn tell(&self, name: &PodName, pod: &k8s::Pod, uid: &str) {
        let is_withdrawn = self.done.contains(&(uid.to_owned(), Presence::Absent));
        self.notices.tell(name, Notice { is_withdrawn, is_application_over: is_application_over(pod) });
    }

    fn judge(&mut self, now: Instant) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(uid, what), pod| {
            let verdict = self.verdict(pod, *what, &snapshot, now);
            if let Verdict::LimitReached(why) = &verdict {
                tracing::warn!(pod = %pod.name, why, ?what, "the limit for its peers' answers is reached");
                self.answers.give_up(pod.told.iter().flat_map(|told| told.awaited.iter().copied()));
            }
            if *what == Presence::Present {
                self.write(pod, &verdict, now);
            }
            let goes_on = matches!(verdict, Verdict::Waits(_));
            if !goes_on {
                self.done.insert((uid.clone(), *what));
                self.tell(&pod.name, &pod.pod, uid);
            }
            goes_on
        });
        self.waiting = waiting;
    }

    fn write(&self, waiting: &Waiting, verdict: &Verdict, now: Instant) {
        let (is_true, reason, message) = match verdict {
            Verdict::Known { message, reason } => (true, *reason, message),
            Verdict::LimitReached(why) => (true, "LimitReached", why),
            Verdict::Waits(why) if now.duration_since(waiting.since) >= SAID_AFTER => (false, "WaitingForPeers", why),
            Verdict::Waits(_) => return,
        };
        let condition = PodCondition { type_: PEERS_READY, is_true, reason, message: message.clone() };
        self.conditions.set(&waiting.pod, condition);
    }

    fn verdict(&mut self, waiting: &mut Waiting, what: Presence, snapshot: &Snapshot, now: Instant) -> Verdict {
        let waited = now.duration_since(waiting.since);
        if waiting.place.is_nowhere() {
            let message = "no Service of the mesh has this pod among its endpoints".to_owned();
            return Verdict::Known { message, reason: "NoService" };
        }
        let unlisted = waiting.place.unlisted(&snapshot.mesh);
        if let (Presence::Present, None, Some(service)) = (what, &waiting.told, unlisted) {
            let why = format!("no EndpointSlice of Service {service} has this pod yet");
            return if waited < LIMIT { Verdict::Waits(why) } else { Verdict::LimitReached(why) };
        }
        let (answers, read) = (self.answers.clone(), &mut self.read);
        let open = answers.lock();
        let told = waiting.told.get_or_insert_with(|| {
            let here: BTreeSet<&PodName> = open.values().map(|peer| &peer.proxy.pod).collect();
            let elsewhere = elsewhere(&waiting.place, what, &waiting.name, snapshot, &here, read);
            let mut told = Told { awaited: BTreeSet::new(), here: 0, elsewhere };
            for (session, peer) in open.iter() {
                let Some(current) = current(snapshot, peer) else { continue };
                // What a pod that ends knows of itself matters to nobody.
                let is_own = what == Presence::Absent && peer.proxy.pod == waiting.name;
                if !is_own && waiting.place.concerns(&current, what, read) {
                    told.here += 1;
                    told.awaited.insert(*session);
                }
            }
            told
        });
        told.awaited.retain(|session| {
            let peer = open.get(session).and_then(|peer| Some((peer, current(snapshot, peer)?)));
            peer.is_some_and(|(peer, current)| waiting.place.is_awaited(peer, &current, what, read))
        });
        let named = told.awaited.iter().take(NAMED_PROXIES).filter_map(|session| open.get(session));
        let named: Vec<String> = named.map(|peer| peer.proxy.pod.to_string()).collect();
        told.verdict(&named, waited)
    }
}

impl Told {
    fn verdict(&self, named: &[String], waited: Duration) -> Verdict {
        let Told { awaited, here, elsewhere } = self;
        let why = if awaited.is_empty() {
            format!("{elsewhere} proxies that reach it are not connected to this controller")
        } else {
            let more = if awaited.len() > named.len() { ", ..." } else { "" };
            let (number, named) = (awaited.len(), named.join(", "));
            format!("{number} of {here} proxies that reach it have not acknowledged it: {named}{more}")
        };
        match (awaited.is_empty(), *elsewhere) {
            (true, 0) => {
                let message = format!("every proxy that reaches it has acknowledged it ({here})");
                Verdict::Known { message, reason: "Acknowledged" }
            }
            (true, _) if waited >= ELSEWHERE => {
                let message = format!("every proxy connected to this controller has acknowledged it ({here}); {why}");
                Verdict::Known { message, reason: "Acknowledged" }
            }
            (false, _) if waited >= LIMIT => Verdict::LimitReached(why),
            _ => Verdict::Waits(why),
        }
    }
}

/// Whether the pod has our gate, and the gate is not open yet.
fn waits_at_gate(pod: &k8s::Pod) -> bool {
    let mut gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let is_open = in_world(pod, PEERS_READY).is_some_and(|condition| condition.status == "True");
    gates.any(|gate| gate.condition_type == PEERS_READY) && !is_open
}

/// Whether every container of the application has ended and none will be started again.
fn is_application_over(pod: &k8s::Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let over = |name: &str| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let ended =
            statuses.filter(|status| status.name == name).find_map(|status| status.state.as_ref()?.terminated.as_ref());
        ended.is_some_and(|ended| match spec.restart_policy.as_deref() {
            _ if is_terminating(pod) => true,
            Some("Never") => true,
            Some("OnFailure") => ended.exit_code == 0,
            Some(_) | None => false,
        })
    };
    let mut of_application = spec.containers.iter().filter(|container| container.name != SIDECAR_CONTAINER).peekable();
    of_application.peek().is_some() && of_application.all(|container| over(&container.name))
}

#[cfg(test)]
mod tests;
