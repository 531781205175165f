//! One owner of what is known about this pod's start: takes in what the parts of the agent report, judges the gate,
//! keeps the timeline, and publishes both.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use osm_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use osm_xds::ResourceType;

use crate::gate::{self, Acknowledged, Answer, Configuration, Facts, Gate, Obstacle, Rejected};
use crate::timeline::{Step, Timeline};

/// Reports that may wait to be taken in. More only wait while the observer is starved of processor time.
pub const QUEUE: usize = 64;

/// After this without a report the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Everything that can be reported.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The certificate, or why there is none.
    Identity(gate::Identity),
    /// The stream to the controller.
    Upstream(gate::Upstream),
    /// Envoy's process.
    Envoy(gate::Envoy),
    /// Envoy's words about itself.
    Answer(Answer),
    /// What Envoy has acknowledged; `None` when its stream has ended.
    Acknowledged(Option<Acknowledged>),
    /// What the controller says is in this pod's way, if it says something.
    Told(Option<Obstacle>),
    /// Time has passed: certificates expire without anybody saying so.
    Tick,
}

/// What the agent tells others about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Whether the sidecar is programmed, and if not, why.
    pub gate: Gate,
    /// When what happened.
    pub timeline: Timeline,
    /// What Envoy refused and does not run, even though the gate may be open.
    pub rejected: Vec<Rejected>,
    /// The stream to the controller, and whose word Envoy is programmed with.
    pub upstream: gate::Upstream,
}

/// The knowledge itself, without tasks.
#[derive(Clone, Debug)]
pub struct Observer {
    facts: Facts,
    status: Status,
    /// What the controller says is in the way.
    told: Option<Obstacle>,
}

impl Observer {
    /// Nothing is known but that the agent began at `now`.
    pub fn new(now: Timestamp) -> Observer {
        let facts = Facts {
            now,
            identity: gate::Identity::Asked,
            upstream: gate::Upstream::default(),
            envoy: gate::Envoy::Absent,
            answer: None,
            session: None,
        };
        let mut status = Status { gate: Gate::default().after(&facts), ..Status::default() };
        status.timeline.note(Step::AgentStarted, now);
        Observer { facts, status, told: None }
    }

    /// What is known.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Takes in one report.
    pub fn take_in(&mut self, event: Event, now: Timestamp) {
        // As exact as the timeline.
        self.facts.now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        match event {
            Event::Identity(identity) => {
                if matches!(identity, gate::Identity::Held(_)) {
                    self.note(Step::IdentityIssued);
                }
                self.facts.identity = identity;
            }
            Event::Upstream(upstream) => {
                if upstream.is_connected {
                    self.note(Step::ControllerConnected);
                }
                match upstream.configuration {
                    Configuration::LastGood(_) => self.note(Step::LastGoodRestored),
                    Configuration::Told => self.note(Step::FirstResources),
                    Configuration::Absent { .. } | Configuration::Ended(_) => {}
                }
                self.status.upstream = upstream.clone();
                self.facts.upstream = upstream;
            }
            Event::Envoy(envoy) => {
                match &envoy {
                    gate::Envoy::Absent | gate::Envoy::Unstartable(_) => {}
                    gate::Envoy::Running { .. } => self.note(Step::EnvoyStarted),
                    gate::Envoy::Ended { why, .. } => self.note(Step::EnvoyEnded(why.clone())),
                }
                self.facts.envoy = envoy;
            }
            Event::Answer(answer) => {
                if answer.connections > 0 {
                    self.note(Step::FirstConnection);
                }
                self.facts.answer = Some(answer);
            }
            Event::Acknowledged(session) => {
                if let Some(session) = &session {
                    self.status.rejected = [session.rejected.as_slice(), &session.replaced].concat();
                }
                self.facts.session = session;
            }
            Event::Told(told) => self.told = told,
            Event::Tick => {}
        }
        self.note_acknowledged();
        self.judge();
    }

    fn judge(&mut self) {
        // It was said over a stream that is open; without one, that is what is in the way.
        let told = self.told.clone().filter(|_| self.status.upstream.is_connected);
        self.facts.upstream.obstacle = self.status.upstream.obstacle.clone().or(told);
        let gate = self.status.gate.after(&self.facts);
        if gate.is_open() && !self.status.gate.is_open() {
            self.note(Step::Programmed);
        }
        self.status.gate = gate;
    }

    /// Counts only once the first configuration is complete: an empty stream has nothing left to acknowledge either.
    fn note_acknowledged(&mut self) {
        let Some(session) = self.facts.session.clone().filter(|_| self.facts.upstream.configuration.is_complete())
        else {
            return;
        };
        let is_refused = |kind| session.rejected.iter().any(|rejected| rejected.kind == kind);
        for ty in ResourceType::ALL {
            if !session.pending.contains(&ty) && !session.unrequested.contains_key(&ty) && !is_refused(ty) {
                self.note(Step::Acknowledged(ty));
            }
        }
    }

    fn note(&mut self, step: Step) {
        self.status.timeline.note(step, self.facts.now);
    }
}

/// Takes in reports until `stop`, and publishes what changed.
pub async fn run(
    mut events: mpsc::Receiver<Event>,
    publish: watch::Sender<Arc<Status>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut observer = Observer::new(clock::now());
    let mut narrator = Narrator::default();
    publish.send_replace(Arc::new(observer.status().clone()));
    loop {
        // Receiving is cancel safe.
        let event = tokio::select! {
            event = events.recv() => event,
            () = tokio::time::sleep(TICK) => Some(Event::Tick),
            () = stop.cancelled() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        observer.take_in(event, clock::now());
        narrator.tell(&observer.status().gate, clock::monotonic());
        publish.send_if_modified(|published| {
            let is_new = **published != *observer.status();
            if is_new {
                *published = Arc::new(observer.status().clone());
            }
            is_new
        });
    }
}

/// What the log has been told of the gate.
#[derive(Debug, Default)]
struct Narrator {
    was_open: bool,
    /// What is missing, since when in these words, and whether the log knows.
    missing: Option<(String, Instant, bool)>,
}

impl Narrator {
    /// Tells that the gate opens or closes at once, and what it waits for once that has not changed for a while: a
    /// start that goes well takes less.
    fn tell(&mut self, gate: &Gate, now: Instant) {
        if gate.is_open() {
            if !self.was_open {
                tracing::info!("programmed: the gate is open");
            }
            (self.was_open, self.missing) = (true, None);
            return;
        }
        if self.was_open {
            tracing::warn!(missing = %gate, "the gate is closed again");
            self.was_open = false;
        }
        let text = gate.to_string();
        match &mut self.missing {
            Some((known, since, is_told)) if *known == text => {
                if !*is_told && now.duration_since(*since) >= TICK {
                    tracing::info!(missing = text, "not programmed yet");
                    *is_told = true;
                }
            }
            Some(_) | None => self.missing = Some((text, now, false)),
        }
    }
}

#[cfg(test)]
mod tests;
