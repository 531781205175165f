//! Between the controller and Envoy: adds the pod's secrets to the copy, hands Envoy's answers back, and reports how
//! both sides stand.

use std::sync::Arc;

use osm_ads::client::{ConnectionState, Failure};
use osm_runtime::clock;
use osm_xds::{Rejection, ResourceType, Resources, SessionStatus, TypeStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::complaint::Complaint;
use crate::controller;
use crate::gate::{self, Acknowledged, Obstacle};
use crate::identity::{Current, Workload};
use crate::last_good::LastGood;
use crate::observer::Event;
use crate::secrets::with_secrets;

/// After so many ends of Envoy without one settled session in between, its silence is taken for a rejection.
const ENDS_WITHOUT_ANSWER_MAX: u32 = 3;

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
    /// For the gate.
    pub events: mpsc::Sender<Event>,
}

/// What is remembered between two looks at the inputs.
#[derive(Debug, Default)]
struct Relay {
    last_good: LastGood,
    silence: Silence,
    last_run: u64,
    /// What Envoy was given last.
    given: Option<Arc<Resources>>,
}

/// Relays until `stop`.
pub async fn run(mut inputs: Inputs, outputs: Outputs, stop: CancellationToken) -> anyhow::Result<()> {
    let mut relay = Relay::default();
    let mut complaint = Complaint::default();
    let (mut upstream, mut session) = (None, None);
    loop {
        let copy = inputs.copy.borrow_and_update().clone();
        let status = inputs.session.borrow_and_update().clone();
        let envoy = inputs.envoy.borrow_and_update().clone();
        let workload = inputs.workload.borrow_and_update().clone();
        let (answers, acknowledged) = relay.step(copy.as_deref(), workload.as_deref(), &status, &envoy);
        if *outputs.resources.borrow() != relay.given {
            outputs.resources.send_replace(relay.given.clone());
        }
        outputs.answers.send_if_modified(|last| std::mem::replace(last, answers.clone()) != answers);
        report(&outputs.events, &mut session, Event::Acknowledged(acknowledged)).await;

        let standing = standing(&inputs.connection.borrow_and_update(), copy.is_some());
        if let Some(obstacle) = &standing.obstacle
            && complaint.is_due(&obstacle.what, clock::monotonic())
        {
            tracing::warn!(error = obstacle.what, has_copy = copy.is_some(), "no stream to the controller");
        }
        report(&outputs.events, &mut upstream, Event::Upstream(standing)).await;
        // The senders live as long as the agent. All are cancel safe.
        tokio::select! {
            Ok(()) = inputs.copy.changed() => {}
            Ok(()) = inputs.connection.changed() => {}
            Ok(()) = inputs.workload.changed() => {}
            Ok(()) = inputs.session.changed() => {}
            Ok(()) = inputs.envoy.changed() => {}
            () = stop.cancelled() => return Ok(()),
            else => return Ok(()),
        }
    }
}

impl Relay {
    /// What to give to Envoy goes into `given`; returns what the controller is answered and what the gate is told.
    fn step(
        &mut self,
        copy: Option<&Resources>,
        workload: Option<&Workload>,
        status: &SessionStatus,
        envoy: &gate::Envoy,
    ) -> (SessionStatus, Option<Acknowledged>) {
        let silence = self.silence.after(envoy, status);
        // The status is about what was given before, if it is about anything that we know.
        if let Some(given) = &self.given {
            self.last_good.learn(status, given);
        }
        let next_run = match envoy {
            gate::Envoy::Running { run, .. } => *run,
            gate::Envoy::Ended(_) => self.last_run + 1,
            gate::Envoy::Absent => 1,
        };
        if let gate::Envoy::Running { run, .. } = envoy {
            self.last_run = *run;
        }
        let (Some(copy), Some(workload)) = (copy, workload) else {
            // Both stay once they are there.
            return (SessionStatus::default(), None);
        };
        let wanted = with_secrets(copy, workload);
        let given = self.given.insert(Arc::new(self.last_good.for_run(next_run, &wanted)));
        let answers = match silence {
            Some(why) => taken_for_rejected(copy, &why),
            None => self.last_good.answers(status, given, copy),
        };
        let is_open = !status.types.is_empty();
        let acknowledged = is_open.then(|| Acknowledged::of(status, given, self.last_good.replaced()));
        (answers, acknowledged)
    }
}

async fn report(events: &mpsc::Sender<Event>, last: &mut Option<Event>, event: Event) {
    if last.as_ref() != Some(&event) {
        *last = Some(event.clone());
        let _ = events.send(event).await;
    }
}

fn standing(connection: &ConnectionState<Obstacle>, is_complete: bool) -> gate::Upstream {
    match connection {
        ConnectionState::Connecting { .. } => gate::Upstream { is_complete, is_connected: false, obstacle: None },
        ConnectionState::Connected { .. } => gate::Upstream { is_complete, is_connected: true, obstacle: None },
        ConnectionState::Failed { failure, .. } => {
            let obstacle = match failure {
                Failure::Connect(obstacle) => obstacle.clone(),
                Failure::Stream(status) => controller::refused(status),
            };
            gate::Upstream { is_complete, is_connected: false, obstacle: Some(obstacle) }
        }
    }
}

/// Counts how often Envoy ended before it had answered for its configuration.
#[derive(Debug, Default)]
struct Silence {
    ends: u32,
    last: Option<gate::Envoy>,
}

impl Silence {
    /// Why Envoy's silence is to be taken for a rejection, if it is.
    fn after(&mut self, envoy: &gate::Envoy, status: &SessionStatus) -> Option<String> {
        if status.is_settled() {
            self.ends = 0;
        }
        let is_new = self.last.as_ref() != Some(envoy);
        if is_new {
            self.last = Some(envoy.clone());
        }
        if let gate::Envoy::Ended(why) = envoy {
            self.ends += u32::from(is_new);
            let is_silent = self.ends >= ENDS_WITHOUT_ANSWER_MAX;
            return is_silent.then(|| format!("Envoy {why}, {} times, before it had accepted this", self.ends));
        }
        None
    }
}

/// The answer in place of an Envoy that dies of its configuration: without one, the controller would wait for it for
/// ever and never send the configuration that is right.
fn taken_for_rejected(copy: &Resources, why: &str) -> SessionStatus {
    let of = |ty: ResourceType| TypeStatus {
        subscribed: true,
        version: copy.version_of(ty),
        rejected: vec![Rejection { names: copy.of(ty).keys().cloned().collect(), message: why.to_owned() }],
        ..TypeStatus::default()
    };
    SessionStatus { types: ResourceType::OF_CONTROLLER.into_iter().map(|ty| (ty, of(ty))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_xds::{Replica, Resource, Response};

    #[test]
    fn the_third_end_without_an_answer_frees_the_controller() {
        let mut replica = Replica::new();
        let bad = Arc::new(Resource::new("bad", b"x".as_slice()));
        let (ty, nonce) = (ResourceType::Listener, "7".to_owned());
        replica.on_response(Response { ty, nonce, resources: vec![bad], removed: vec![] });
        let mut silence = Silence::default();
        let ended = gate::Envoy::Ended("was killed by signal 11 (SIGSEGV)".into());
        let mut why = None;
        for run in 1..=3 {
            assert_eq!(why, None);
            assert_eq!(silence.after(&gate::Envoy::Running { run, pid: 1 }, &SessionStatus::default()), None);
            why = silence.after(&ended, &SessionStatus::default());
        }
        let answers = replica.relay(&taken_for_rejected(&replica.resources(), &why.unwrap()));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].nonce.as_deref(), Some("7"));
        let said = "Envoy was killed by signal 11 (SIGSEGV), 3 times, before it had accepted this";
        assert_eq!(answers[0].error.as_deref(), Some(said));
    }
}
