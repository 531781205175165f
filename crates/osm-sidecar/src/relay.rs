//! Between the controller and Envoy: adds the pod's secrets to the copy, hands Envoy's answers back, and reports how
//! both sides stand.

mod stand_in;

use std::sync::Arc;

use jiff::Timestamp;
use osm_ads::client::{ConnectionState, Failure};
use osm_runtime::clock;
use osm_xds::{ResourceType, Resources, SessionStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::awaited::Awaited;
use crate::complaint::Complaint;
use crate::controller;
use crate::gate::{self, Acknowledged, Configuration, Obstacle, Term};
use crate::identity::{Current, until as clock_at};
use crate::last_good::{Content, Found, Usable};
use crate::observer::Event;
use crate::park::twins::Twins;
use crate::secrets::with_secrets;
use crate::verdicts::Verdicts;
use stand_in::{Silence, accepted_unseen, taken_for_rejected};

/// What comes in.
#[derive(Debug)]
pub struct Inputs {
    /// The copy of what the controller told, once it is complete.
    pub copy: watch::Receiver<Option<Arc<Resources>>>,
    /// How the stream to the controller stands.
    pub connection: watch::Receiver<ConnectionState<Obstacle>>,
    /// The workload's certificate.
    pub workload: watch::Receiver<Current>,
    /// The session with Envoy.
    pub session: watch::Receiver<SessionStatus>,
    /// Envoy's process.
    pub envoy: watch::Receiver<gate::Envoy>,
}

/// What goes out.
#[derive(Debug)]
pub struct Outputs {
    /// For Envoy; none until there is a complete copy and a certificate, so that it is given all of it at once.
    pub resources: watch::Sender<Option<Arc<Resources>>>,
    /// For the controller: what Envoy answered.
    pub answers: watch::Sender<SessionStatus>,
    /// To be kept: what Envoy has accepted while it is the controller's present word.
    pub good: watch::Sender<Option<Arc<Content>>>,
    /// For the gate.
    pub events: mpsc::Sender<Event>,
}

/// What is remembered between two looks at the inputs.
#[derive(Debug)]
struct Relay {
    /// What the agent began with.
    found: Found,
    /// Whether the controller has told this process everything at least once.
    is_told: bool,
    verdicts: Verdicts,
    awaited: Awaited,
    silence: Silence,
    last_run: u64,
    /// What Envoy was given last.
    given: Option<Arc<Resources>>,
}

/// One look at the inputs.
struct Seen {
    now: Timestamp,
    connection: ConnectionState<Obstacle>,
    copy: Option<Arc<Resources>>,
    workload: Current,
    status: SessionStatus,
    envoy: gate::Envoy,
}

/// What follows from it, besides what Envoy is given.
struct Followed {
    configuration: Configuration,
    answers: SessionStatus,
    acknowledged: Option<Acknowledged>,
    good: Option<Arc<Content>>,
}

/// Relays until `stop`.
pub async fn run(
    mut inputs: Inputs,
    outputs: Outputs,
    mut twins: Twins,
    found: Found,
    awaited: Awaited,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut is_from_last_good = found.content().is_some();
    let mut relay = Relay::new(found, awaited);
    let mut complaint = Complaint::default();
    let (mut upstream, mut session) = (None, None);
    loop {
        let seen = Seen::of(&mut inputs, &twins);
        let Followed { configuration, answers, acknowledged, good } = relay.step(&seen);
        let for_envoy = relay.given.as_ref().map(|given| Arc::new(twins.beside(given)));
        if *outputs.resources.borrow() != for_envoy {
            outputs.resources.send_replace(for_envoy);
        }
        outputs.answers.send_if_modified(|last| std::mem::replace(last, answers.clone()) != answers);
        outputs.good.send_if_modified(|last| keep(last, good));
        report(&outputs.events, &mut session, Event::Acknowledged(acknowledged)).await;

        let until = match &configuration {
            Configuration::LastGood(term) => Some(term.until),
            Configuration::Absent { .. } | Configuration::Ended(_) | Configuration::Told => None,
        };
        if matches!(configuration, Configuration::Told) && std::mem::take(&mut is_from_last_good) {
            tracing::info!("the controller has answered; the last good state is not needed any more");
        }
        let standing = standing(&seen.connection, configuration);
        if let Some(obstacle) = &standing.obstacle
            && complaint.is_due(&obstacle.what, clock::monotonic())
        {
            tracing::warn!(error = obstacle.what, has_copy = seen.copy.is_some(), "no stream to the controller");
        }
        report(&outputs.events, &mut upstream, Event::Upstream(standing)).await;
        // The senders live as long as the agent. All are cancel safe.
        tokio::select! {
            Ok(()) = inputs.copy.changed() => {}
            Ok(()) = inputs.connection.changed() => {}
            Ok(()) = inputs.workload.changed() => {}
            Ok(()) = inputs.session.changed() => {}
            Ok(()) = inputs.envoy.changed() => {}
            () = reaches(until) => tracing::warn!("the last good state may not be used any longer"),
            // The next look gives up the wait.
            () = reaches(relay.awaited.until()) => {}
            () = stop.cancelled() => return Ok(()),
            else => return Ok(()),
        }
    }
}

impl Seen {
    fn of(inputs: &mut Inputs, twins: &Twins) -> Seen {
        // Before the copy: one that is current when looked at first is so for whatever copy is looked at then.
        let connection = inputs.connection.borrow_and_update().clone();
        Seen {
            now: clock::now(),
            connection,
            copy: inputs.copy.borrow_and_update().clone(),
            workload: inputs.workload.borrow_and_update().clone(),
            status: twins.folded(&inputs.session.borrow_and_update()),
            envoy: inputs.envoy.borrow_and_update().clone(),
        }
    }

    fn is_current(&self) -> bool {
        matches!(self.connection, ConnectionState::Connected { is_current: true, .. })
    }
}

impl Relay {
    fn new(found: Found, awaited: Awaited) -> Relay {
        let verdicts = match &found {
            Found::Usable(Usable { content, .. }) => Verdicts::restored(&content.copy, &content.refusals),
            Found::Nothing | Found::Unusable(_) => Verdicts::default(),
        };
        Relay { found, is_told: false, verdicts, awaited, silence: Silence::default(), last_run: 0, given: None }
    }

    /// What to give to Envoy goes into `given`.
    fn step(&mut self, seen: &Seen) -> Followed {
        let Seen { copy, workload, status, envoy, .. } = seen;
        let silence = self.silence.after(envoy, status);
        let configuration = self.configuration(seen);
        // The status is about what was given before, if it is about anything that we know.
        if let Some(given) = self.given.as_ref().filter(|_| configuration.is_complete()) {
            self.verdicts.learn(status, given);
        }
        let next_run = match envoy {
            gate::Envoy::Running { run, .. } => *run,
            gate::Envoy::Ended { .. } => self.last_run + 1,
            gate::Envoy::Unstartable(_) => self.last_run + 1,
            gate::Envoy::Absent => 1,
        };
        if let gate::Envoy::Running { run, .. } = envoy {
            self.last_run = *run;
        }
        let (Some(copy), Some(workload)) = (copy, workload) else {
            // Both stay once they are there.
            return Followed { configuration, answers: SessionStatus::default(), acknowledged: None, good: None };
        };
        if !configuration.is_complete() {
            // Envoy is left with nothing: its listeners close, and connections wait in the kernel. The controller must
            // not wait for answers meanwhile, or it would not come to send the rest.
            self.given = Some(Arc::default());
            return Followed { configuration, answers: accepted_unseen(copy), acknowledged: None, good: None };
        }
        let wanted = with_secrets(copy, workload);
        let given = self.given.insert(Arc::new(self.verdicts.for_run(next_run, &wanted))).clone();
        let answers = match silence {
            Some(why) => taken_for_rejected(copy, &why),
            None => self.verdicts.answers(status, &given, copy),
        };
        let is_open = !status.types.is_empty();
        let lacking = self.awaited.lacking(&given, seen.now);
        let acknowledged =
            is_open.then(|| Acknowledged { lacking, ..Acknowledged::of(status, &given, self.verdicts.replaced()) });
        let is_good = seen.is_current() && acknowledged.as_ref().is_some_and(|session| self.is_accepted(session));
        let good = is_good.then(|| {
            let refusals = self.verdicts.refusals(copy);
            Arc::new(Content { workload: workload.clone(), copy: copy.clone(), refusals })
        });
        Followed { configuration, answers, acknowledged, good }
    }

    fn configuration(&mut self, seen: &Seen) -> Configuration {
        if seen.is_current() && seen.copy.is_some() {
            // What was found is of no more use, and takes memory.
            (self.is_told, self.found) = (true, Found::Nothing);
        }
        match &self.found {
            _ if self.is_told => Configuration::Told,
            Found::Usable(Usable { content, confirmed, limit }) => {
                let workload = seen.workload.as_ref().unwrap_or(&content.workload);
                let term = Term { confirmed: *confirmed, until: workload.not_after.min(*limit) };
                if seen.now < term.until { Configuration::LastGood(term) } else { Configuration::Ended(term) }
            }
            // Without an earlier copy, there is one only when the controller has told all of it.
            Found::Nothing | Found::Unusable(_) if seen.copy.is_some() => Configuration::Told,
            Found::Nothing => Configuration::Absent { last_good_unusable: None },
            Found::Unusable(why) => Configuration::Absent { last_good_unusable: Some(why.clone()) },
        }
    }

    /// Whether Envoy has answered for all that it was given, and has the pod's listeners.
    fn is_accepted(&self, session: &Acknowledged) -> bool {
        let has_listeners = gate::LISTENERS.iter().all(|name| self.verdicts.has_accepted(ResourceType::Listener, name));
        session.pending.is_empty() && session.unrequested.is_empty() && has_listeners
    }
}

/// Replaces what is to be kept; whether that is something else.
fn keep(last: &mut Option<Arc<Content>>, good: Option<Arc<Content>>) -> bool {
    let is_same = match (&*last, &good) {
        (Some(last), Some(good)) => last.is_same(good),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !is_same {
        *last = good;
    }
    !is_same
}

/// Never, if there is no such time.
async fn reaches(time: Option<Timestamp>) {
    match time {
        Some(time) => clock_at(time).await,
        None => std::future::pending().await,
    }
}

async fn report(events: &mpsc::Sender<Event>, last: &mut Option<Event>, event: Event) {
    if last.as_ref() != Some(&event) {
        *last = Some(event.clone());
        let _ = events.send(event).await;
    }
}

fn standing(connection: &ConnectionState<Obstacle>, configuration: Configuration) -> gate::Upstream {
    match connection {
        ConnectionState::Connecting { .. } => gate::Upstream { configuration, is_connected: false, obstacle: None },
        ConnectionState::Connected { .. } => gate::Upstream { configuration, is_connected: true, obstacle: None },
        ConnectionState::Failed { failure, .. } => {
            let obstacle = match failure {
                Failure::Connect(obstacle) => obstacle.clone(),
                Failure::Stream(status) => controller::refused(status),
            };
            gate::Upstream { configuration, is_connected: false, obstacle: Some(obstacle) }
        }
    }
}

#[cfg(test)]
mod tests;
