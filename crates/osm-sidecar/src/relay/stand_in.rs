//! What the controller is answered when Envoy cannot answer for itself.

use osm_xds::{Rejection, ResourceType, Resources, SessionStatus, TypeStatus};

use crate::gate;

/// After so many ends of Envoy without one settled session in between, its silence is taken for a rejection.
const ENDS_WITHOUT_ANSWER_MAX: u32 = 3;

/// Counts how often Envoy ended before it had answered for its configuration.
#[derive(Debug, Default)]
pub(super) struct Silence {
    ends: u32,
    last: Option<gate::Envoy>,
}

impl Silence {
    /// Why Envoy's silence is to be taken for a rejection, if it is.
    pub(super) fn after(&mut self, envoy: &gate::Envoy, status: &SessionStatus) -> Option<String> {
        if status.is_settled() {
            self.ends = 0;
        }
        let is_new = self.last.as_ref() != Some(envoy);
        if is_new {
            self.last = Some(envoy.clone());
        }
        if let gate::Envoy::Ended { why, .. } = envoy {
            self.ends += u32::from(is_new);
            let is_silent = self.ends >= ENDS_WITHOUT_ANSWER_MAX;
            return is_silent.then(|| format!("Envoy {why}, {} times, before it had accepted this", self.ends));
        }
        None
    }
}

/// The answer in place of an Envoy that dies of its configuration: without one, the controller would wait for it for
/// ever and never send the configuration that is right.
pub(super) fn taken_for_rejected(copy: &Resources, why: &str) -> SessionStatus {
    let of = |ty: ResourceType| TypeStatus {
        subscribed: true,
        version: copy.version_of(ty),
        rejected: vec![Rejection { names: copy.of(ty).keys().cloned().collect(), message: why.to_owned() }],
        ..TypeStatus::default()
    };
    SessionStatus { types: ResourceType::OF_CONTROLLER.into_iter().map(|ty| (ty, of(ty))).collect() }
}

/// The answer in place of an Envoy that is not to have any of it.
pub(super) fn accepted_unseen(copy: &Resources) -> SessionStatus {
    let of = |ty: ResourceType| TypeStatus { subscribed: true, version: copy.version_of(ty), ..TypeStatus::default() };
    SessionStatus { types: ResourceType::OF_CONTROLLER.into_iter().map(|ty| (ty, of(ty))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_xds::{Replica, Resource, Response};
    use std::sync::Arc;

    #[test]
    fn the_third_end_without_an_answer_frees_the_controller() {
        let mut replica = Replica::new();
        let bad = Arc::new(Resource::new("bad", b"x".as_slice()));
        let (ty, nonce) = (ResourceType::Listener, "7".to_owned());
        replica.on_response(Response { ty, nonce, resources: vec![bad], removed: vec![] });
        let mut silence = Silence::default();
        let ended = gate::Envoy::Ended { why: "was killed by signal 11 (SIGSEGV)".into(), is_hung: false };
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
