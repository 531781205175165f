//! When the sidecar is *programmed*, and if it is not, what is missing, who owns it and since when. Pure.
//!
//! Envoy's own `/ready` is not enough: it says nothing of what this pod needs. Once open for a run of Envoy, the gate
//! stays open while updates are under way and when one is rejected: Envoy keeps the last good one, and a bad object
//! must not take every pod of the mesh out of service.

mod facts;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use osm_startup::Reason;

pub use facts::{
    Acknowledged, Answer, Configuration, Envoy, Facts, Identity, LISTENERS, Lacking, Obstacle, Rejected, Term, Upstream,
};
pub use osm_startup::Owner;

/// One thing that must happen before the gate opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Stays the same while the words change.
    pub cause: Cause,
    /// Why it is missing, for programs.
    pub reason: Reason,
    /// For the one who waits.
    pub what: String,
    /// Who must act.
    pub owner: Owner,
    /// Since when it has been missing.
    pub since: Timestamp,
}

/// What can be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No valid certificate.
    Certificate,
    /// No complete configuration from the controller.
    Configuration,
    /// No process.
    Process,
    /// No answer from its administration interface.
    Answer,
    /// A resource was refused.
    Rejection,
    /// Something is not acknowledged yet.
    Acknowledgement,
    /// A listener of the pod was not sent.
    Listener,
    /// Envoy waits for something itself.
    Warming,
    /// A service that the pod asked to wait for has no endpoint.
    Upstream,
}

/// The gate, and what it remembers: since when what is missing, and which run of Envoy was programmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    missing: Vec<Missing>,
    programmed_run: Option<u64>,
    is_open: bool,
    /// Whether it has ever been: then it does not wait for other services again.
    has_opened: bool,
    /// How the last run of Envoy ended, until another answers: one that ends time and again says so all along.
    ended: Option<Obstacle>,
}

impl Missing {
    /// The same in the words in which everybody is told.
    pub fn said(&self) -> osm_startup::Missing {
        osm_startup::Missing::new(self.reason, &*self.what, self.since)
    }
}

impl Gate {
    /// Whether the sidecar is programmed.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The run of Envoy that has been programmed, if it is the present one.
    pub fn programmed_run(&self) -> Option<u64> {
        self.programmed_run
    }

    /// What is missing; empty if and only if the gate is open, or nothing has been observed.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The gate after an observation.
    #[must_use]
    pub fn after(&self, facts: &Facts) -> Gate {
        let since: BTreeMap<Cause, Timestamp> = self.missing.iter().map(|m| (m.cause, m.since)).collect();
        let upstreams = upstreams(facts).filter(|_| !self.has_opened);
        let ended = self.ended_after(facts);
        let missing: Vec<Missing> = lacks(facts, self.programmed_run, ended.as_ref())
            .into_iter()
            .chain(upstreams.map(|obstacle| (Cause::Upstream, obstacle)))
            .map(|(cause, Obstacle { reason, what })| {
                let since = since.get(&cause).copied().unwrap_or(facts.now);
                Missing { cause, reason, what, owner: reason.owner(), since }
            })
            .collect();
        let is_open = missing.is_empty();
        let has_ended = matches!(facts.upstream.configuration, Configuration::Ended(_));
        let programmed_run = match facts.envoy {
            Envoy::Running { run, .. } if is_open || (self.programmed_run == Some(run) && !has_ended) => Some(run),
            Envoy::Running { .. } | Envoy::Absent | Envoy::Unstartable(_) | Envoy::Ended { .. } => None,
        };
        Gate { missing, programmed_run, is_open, has_opened: self.has_opened || is_open, ended }
    }

    fn ended_after(&self, facts: &Facts) -> Option<Obstacle> {
        match &facts.envoy {
            Envoy::Ended { why, is_hung } => Some(end(why, *is_hung)),
            Envoy::Running { run, .. } if facts.answer_of(*run).is_some() => None,
            Envoy::Running { .. } | Envoy::Absent | Envoy::Unstartable(_) => self.ended.clone(),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_open {
            return f.write_str("programmed");
        }
        let missing: Vec<&str> = self.missing.iter().map(|m| m.what.as_str()).collect();
        f.write_str(&missing.join("; "))
    }
}

/// What is missing, in the order in which things happen.
fn lacks(facts: &Facts, programmed_run: Option<u64>, ended: Option<&Obstacle>) -> Vec<(Cause, Obstacle)> {
    let mut lacks = Vec::new();
    lacks.extend(certificate(facts).map(|obstacle| (Cause::Certificate, obstacle)));
    let is_complete = facts.upstream.configuration.is_complete();
    lacks.extend(configuration(&facts.upstream).map(|obstacle| (Cause::Configuration, obstacle)));
    if matches!(facts.upstream.configuration, Configuration::Ended(_)) {
        // Envoy has been given nothing instead; what it says of that helps nobody.
        return lacks;
    }
    let run = match &facts.envoy {
        Envoy::Running { run, .. } => *run,
        Envoy::Absent => {
            lacks.push((Cause::Process, obstacle(Reason::EnvoyPending, "Envoy is not started yet")));
            return lacks;
        }
        Envoy::Unstartable(why) => {
            lacks.push((Cause::Process, obstacle(Reason::EnvoyUnstartable, format!("Envoy cannot be started: {why}"))));
            return lacks;
        }
        Envoy::Ended { why, is_hung } => {
            lacks.push((Cause::Process, end(why, *is_hung).and("it is started again")));
            return lacks;
        }
    };
    if programmed_run == Some(run) {
        return lacks;
    }
    let answer = facts.answer_of(run);
    match (&facts.session, answer) {
        (Some(session), _) => lacks.extend(unacknowledged(session, is_complete)),
        (None, Some(_)) => {
            let what = "Envoy has not asked for its configuration yet";
            lacks.push((Cause::Acknowledgement, obstacle(Reason::EnvoyUnacknowledged, what)));
        }
        // Who says nothing at all cannot be expected to ask.
        (None, None) => {}
    }
    match (answer, ended) {
        (Some(answer), _) => lacks.extend(warming(answer)),
        (None, Some(ended)) => {
            lacks.push((Cause::Process, ended.and("it has been started again and does not answer yet")));
        }
        (None, None) => {
            lacks.push((Cause::Answer, obstacle(Reason::EnvoySilent, "Envoy does not answer on its admin socket yet")));
        }
    }
    lacks
}

fn end(why: &str, is_hung: bool) -> Obstacle {
    obstacle(if is_hung { Reason::EnvoySilent } else { Reason::EnvoyEnded }, format!("Envoy {why}"))
}

fn certificate(facts: &Facts) -> Option<Obstacle> {
    match &facts.identity {
        Identity::Asked => {
            Some(obstacle(Reason::CertificatePending, "the workload certificate is asked for and not issued yet"))
        }
        Identity::Refused(why) => {
            Some(obstacle(why.reason, format!("the workload certificate is not issued: {}", why.what)))
        }
        Identity::Held(not_after) | Identity::Restored(not_after) if *not_after <= facts.now => Some(obstacle(
            Reason::CertificateExpired,
            format!("the workload certificate expired at {not_after} and is not renewed"),
        )),
        Identity::Held(_) | Identity::Restored(_) => None,
    }
}

fn configuration(upstream: &Upstream) -> Option<Obstacle> {
    let Obstacle { reason, what } = match &upstream.obstacle {
        Some(why) => why.clone(),
        None if upstream.is_connected => obstacle(
            Reason::ConfigurationPending,
            "connected to the controller, which has not sent this pod's configuration yet; it may not know the pod yet",
        ),
        None => obstacle(Reason::ConfigurationPending, "connecting to the controller"),
    };
    let what = match &upstream.configuration {
        Configuration::LastGood(_) | Configuration::Told => return None,
        Configuration::Absent { last_good_unusable: None } => format!("no configuration: {what}"),
        Configuration::Absent { last_good_unusable: Some(why) } => {
            format!("no configuration: {what}; the last good state is not used: {why}")
        }
        Configuration::Ended(Term { confirmed, until }) => format!(
            "no configuration: {what}; the last good state, which the controller confirmed at {confirmed}, could be used \
             until {until}"
        ),
    };
    Some(Obstacle { reason, what })
}

/// So many names are said of each kind.
const NAMES_SHOWN: usize = 5;

/// In Envoy's words, which are the kernel's.
const ADDRESS_TAKEN: &str = "Address already in use";

fn unacknowledged(session: &Acknowledged, is_complete: bool) -> Vec<(Cause, Obstacle)> {
    let mut lacks = Vec::new();
    for rejected in &session.rejected {
        let what = format!("Envoy rejected {} {}: {}", rejected.kind, listed(&rejected.names), rejected.message);
        // Nothing is wrong with a listener whose port somebody else has.
        let is_taken = rejected.message.contains(ADDRESS_TAKEN);
        let reason = if is_taken { Reason::PortInUse } else { Reason::ConfigurationRejected };
        lacks.push((Cause::Rejection, Obstacle { reason, what }));
    }
    let mut unanswered = Vec::new();
    if !session.pending.is_empty() {
        let kinds: Vec<String> = session.pending.iter().map(ToString::to_string).collect();
        unanswered.push(format!("Envoy has not acknowledged: {}", kinds.join(", ")));
    }
    for (ty, names) in &session.unrequested {
        unanswered.push(format!("Envoy has not asked for {ty} {}", listed(names)));
    }
    if !unanswered.is_empty() {
        lacks.push((Cause::Acknowledgement, obstacle(Reason::EnvoyUnacknowledged, unanswered.join("; "))));
    }
    if is_complete && !session.absent_listeners.is_empty() {
        let what = format!("the controller has not sent {}", session.absent_listeners.join(", "));
        lacks.push((Cause::Listener, obstacle(Reason::ConfigurationIncomplete, what)));
    }
    lacks
}

/// The names, as far as a line holds them: a large mesh has thousands.
fn listed(names: &[String]) -> String {
    let (first, rest) = names.split_at(names.len().min(NAMES_SHOWN));
    let first = first.join(", ");
    if rest.is_empty() { first } else { format!("{first} and {} more", rest.len()) }
}

fn warming(answer: &Answer) -> Option<(Cause, Obstacle)> {
    let Answer { state, has_workers, listeners_active, listeners_warming, clusters_warming, .. } = answer;
    let is_done = state == "LIVE"
        && *has_workers
        && *listeners_active >= LISTENERS.len() as u64
        && *listeners_warming == 0
        && *clusters_warming == 0;
    let workers = if *has_workers { "started" } else { "not started" };
    let what = format!(
        "Envoy is {state}, workers {workers}, {listeners_active} listeners active, {listeners_warming} listeners and \
         {clusters_warming} clusters warming"
    );
    (!is_done).then(|| (Cause::Warming, obstacle(Reason::EnvoyWarming, what)))
}

/// The services that the pod asked to wait for; a start only.
fn upstreams(facts: &Facts) -> Option<Obstacle> {
    let lacking = &facts.session.as_ref()?.lacking;
    let line = |Lacking { upstream, is_known, until: _ }: &Lacking| match is_known {
        true => format!("{upstream} has no endpoint"),
        false => format!("{upstream} is no service of the mesh that this pod may call"),
    };
    let lines: Vec<String> = lacking.iter().map(line).collect();
    let until = match lacking.first()?.until {
        Some(until) => format!(", until {until} at most"),
        None => String::new(),
    };
    let what = format!("it is to wait for other services: {}{until}", lines.join("; "));
    Some(obstacle(Reason::UpstreamWithoutEndpoints, what))
}

fn obstacle(reason: Reason, what: impl Into<String>) -> Obstacle {
    Obstacle { reason, what: what.into() }
}

#[cfg(test)]
mod tests;
