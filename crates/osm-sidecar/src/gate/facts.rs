//! What the gate is judged by.

use std::collections::BTreeMap;

use jiff::Timestamp;
use osm_startup::Reason;
use osm_xds::{ResourceType, Resources, SessionStatus};
use serde::Serialize;

/// The listeners without which no connection of the pod is carried.
pub const LISTENERS: [&str; 2] = ["inbound-listener", "outbound-listener"];

/// Everything the gate depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The time of the observation.
    pub now: Timestamp,
    /// The workload certificate.
    pub identity: Identity,
    /// The stream to the controller.
    pub upstream: Upstream,
    /// The process.
    pub envoy: Envoy,
    /// What Envoy last said about itself, and which run of it, if any has.
    pub answer: Option<Answer>,
    /// What Envoy acknowledged over the stream that is open now, if one is.
    pub session: Option<Acknowledged>,
}

impl Facts {
    /// What this run of Envoy said about itself, if it has.
    pub(super) fn answer_of(&self, run: u64) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| answer.run == run)
    }
}

/// The workload certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Asked for, not answered yet.
    Asked,
    /// Not there, and why.
    Refused(Obstacle),
    /// Issued to this process and valid until this time. Stays when a renewal fails.
    Held(Timestamp),
    /// That of an earlier life of the agent, valid until this time.
    Restored(Timestamp),
}

/// The stream to the controller, and the copy of what came over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// What there is to program Envoy with.
    pub configuration: Configuration,
    /// Whether the stream is open.
    pub is_connected: bool,
    /// Why it is not.
    pub obstacle: Option<Obstacle>,
}

/// What there is to program Envoy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Nothing complete yet.
    Absent {
        /// Why the last good state does not do, if there is one.
        last_good_unusable: Option<String>,
    },
    /// The last good state. The controller has not spoken since the agent began.
    LastGood(Term),
    /// Nothing any more: the time in which the last good state may be used is over.
    Ended(Term),
    /// What the controller told this process. Stays so when the stream ends.
    Told,
}

/// How long a last good state may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When the controller last stood by it.
    pub confirmed: Timestamp,
    /// The end.
    pub until: Timestamp,
}

/// Why something is not there, in words for the one who waits, and whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Why, for programs; it says whose turn it is.
    pub reason: Reason,
    /// What is in the way.
    pub what: String,
}

impl Obstacle {
    /// The same with more to say.
    pub(super) fn and(&self, more: &str) -> Obstacle {
        Obstacle { reason: self.reason, what: format!("{}; {more}", self.what) }
    }
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envoy {
    /// Not started yet.
    Absent,
    /// Running.
    Running {
        /// Counts the starts, from 1.
        run: u64,
        /// Its process id.
        pid: u32,
    },
    /// There is no process, because its program cannot be started, and why. Will be tried again.
    Unstartable(String),
    /// Ended. Will be started again.
    Ended {
        /// In words that go on after "Envoy".
        why: String,
        /// Whether it was killed because it did not answer.
        is_hung: bool,
    },
}

/// What Envoy says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The run that said it.
    pub run: u64,
    /// The text of `/ready`: `LIVE`, `PRE_INITIALIZING`, `INITIALIZING`, `DRAINING`.
    pub state: String,
    /// Whether the worker threads carry connections.
    pub has_workers: bool,
    /// Listeners that carry connections.
    pub listeners_active: u64,
    /// Listeners that wait for routes or secrets.
    pub listeners_warming: u64,
    /// Clusters that wait for endpoints or secrets.
    pub clusters_warming: u64,
    /// Connections of the application that it has taken.
    pub connections: u64,
}

/// What Envoy acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// The types of which something is still under way.
    pub pending: Vec<ResourceType>,
    /// What exists and Envoy has not asked for, though it must.
    pub unrequested: BTreeMap<ResourceType, Vec<String>>,
    /// What it refused, and in which words.
    pub rejected: Vec<Rejected>,
    /// What an earlier run refused; this one has the last good version, which does for the gate.
    pub replaced: Vec<Rejected>,
    /// Which of [`LISTENERS`] it was not given.
    pub absent_listeners: Vec<&'static str>,
    /// Services that the pod asked to wait for, and that have no endpoint in what Envoy was given.
    pub lacking: Vec<Lacking>,
}

/// A service that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Its name, as the pod's annotation has it.
    pub upstream: String,
    /// Whether this pod was told of it at all.
    pub is_known: bool,
    /// When the wait ends in any case; never if not set.
    pub until: Option<Timestamp>,
}

/// What Envoy refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The kind of resource.
    pub kind: ResourceType,
    /// The resources.
    pub names: Vec<String>,
    /// Envoy's own words.
    pub message: String,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration::Absent { last_good_unusable: None }
    }
}

impl Configuration {
    /// Whether Envoy is given a configuration.
    pub fn is_complete(&self) -> bool {
        match self {
            Configuration::LastGood(_) | Configuration::Told => true,
            Configuration::Absent { .. } | Configuration::Ended(_) => false,
        }
    }
}

impl Acknowledged {
    /// What a session with Envoy says about the resources that Envoy was `given`, some of them `replaced`.
    pub fn of(status: &SessionStatus, given: &Resources, replaced: Vec<Rejected>) -> Acknowledged {
        let is_root = |ty| matches!(ty, ResourceType::Cluster | ResourceType::Listener);
        let is_referred_to = |ty| matches!(ty, ResourceType::Endpoint | ResourceType::Route);
        let states = || status.types.iter().map(|(ty, state)| (*ty, state));
        let pending = |(ty, state): &(ResourceType, &osm_xds::TypeStatus)| {
            let is_current = state.version == given.version_of(*ty);
            !is_current || !state.is_idle() || !state.leaving.is_empty() || (is_root(*ty) && !state.subscribed)
        };
        let unrequested = states().filter(|(ty, state)| is_referred_to(*ty) && !state.unrequested.is_empty());
        let rejected = status.rejected().map(|(kind, rejection)| Rejected {
            kind,
            names: rejection.names.clone(),
            message: rejection.message.clone(),
        });
        let listeners = given.of(ResourceType::Listener);
        Acknowledged {
            pending: states().filter(pending).map(|(ty, _)| ty).collect(),
            unrequested: unrequested.map(|(ty, state)| (ty, state.unrequested.clone())).collect(),
            rejected: rejected.collect(),
            replaced,
            absent_listeners: LISTENERS.into_iter().filter(|name| !listeners.contains_key(*name)).collect(),
            lacking: Vec::new(),
        }
    }
}
