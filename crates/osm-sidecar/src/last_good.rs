//! The last good state: the configuration that Envoy accepted and the controller confirmed, and the certificate, kept
//! in the state directory so that a new process of the agent can program Envoy while the controller is down.
//!
//! What does not hold beyond doubt is not used, and says why: a pod that waits is better than one that follows
//! somebody else's rules, or rules that nobody has confirmed for longer than allowed.

mod format;
pub mod saver;
mod subject;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use osm_xds::Resources;

use crate::config::Pod;
use crate::identity::Workload;
use crate::state_dir::StateDir;
use crate::verdicts::Refusal;

pub use format::{SIZE_LIMIT_BYTES, TooLarge, Unreadable, decode, encode};
pub use subject::token_subject;

/// A clock may be set back by this much between two lives of the agent.
const CLOCK_SKEW_ALLOWANCE: SignedDuration = SignedDuration::from_mins(5);

/// What is in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGoodState {
    /// Whose it is.
    pub holder: Holder,
    /// When the controller last stood by it.
    pub confirmed: Timestamp,
    /// The state itself.
    pub content: Arc<Content>,
}

/// Whose state it is. Another holder must not use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The pod.
    pub pod: Pod,
    /// Whom the pod's token names, see [`token_subject`]; empty if the token does not say.
    pub token_subject: String,
}

/// What a new process needs in order to go on as the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Key, certificate and roots.
    pub workload: Arc<Workload>,
    /// All that the controller told.
    pub copy: Arc<Resources>,
    /// What Envoy refused of it.
    pub refusals: Vec<Refusal>,
}

/// What was found at the start.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// No state, or none is to be used.
    Nothing,
    /// A state that must not be used, and why.
    Unusable(String),
    /// A state to go on from.
    Usable(Usable),
}

/// A state to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable {
    /// The state.
    pub content: Arc<Content>,
    /// When the controller last stood by it.
    pub confirmed: Timestamp,
    /// From when on it must not be used if the controller has not confirmed it by then. The certificate may end
    /// earlier.
    pub limit: Timestamp,
}

/// Why a state must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unusable {
    #[error("it is of pod {0}")]
    OtherPod(String),
    #[error("it was kept for the token of {0:?}, and the pod's token is for {1:?}")]
    OtherToken(String, String),
    #[error("its certificate expired at {0}")]
    Expired(Timestamp),
    #[error(
        "the controller last confirmed it at {confirmed}, {} ago, and it may be used for {} (OSM_LAST_GOOD_SECONDS)",
        whole_seconds(*age),
        whole_seconds(*limit)
    )]
    TooOld { confirmed: Timestamp, age: SignedDuration, limit: SignedDuration },
    #[error("it was confirmed at {0}, which is in the future: the clock was set back, so its age is not known")]
    FromTheFuture(Timestamp),
}

/// What the state directory holds for `pod`, and whether it may be used at `now`.
pub fn find(state_dir: &StateDir, pod: &Pod, token_file: &Path, max_age: Duration, now: Timestamp) -> Found {
    let file = state_dir.last_good();
    let bytes = match state_dir.read(&file, SIZE_LIMIT_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Found::Nothing,
        Err(error) => return Found::Unusable(format!("{error:#}")),
    };
    let state = match decode(&bytes) {
        Ok(state) => state,
        Err(error) => return Found::Unusable(format!("{} cannot be read: {error}", file.display())),
    };
    let holder = Holder::new(pod, token_file);
    match state.usable(&holder, max_age, now) {
        Ok(usable) => Found::Usable(usable),
        Err(why) => Found::Unusable(why.to_string()),
    }
}

impl Found {
    /// What to go on from.
    pub fn content(&self) -> Option<&Arc<Content>> {
        match self {
            Found::Usable(usable) => Some(&usable.content),
            Found::Nothing | Found::Unusable(_) => None,
        }
    }
}

impl Holder {
    /// The pod with the token that is in the file now.
    pub fn new(pod: &Pod, token_file: &Path) -> Holder {
        Holder { pod: pod.clone(), token_subject: subject::subject_in(token_file) }
    }
}

impl LastGoodState {
    fn usable(self, holder: &Holder, max_age: Duration, now: Timestamp) -> Result<Usable, Unusable> {
        let LastGoodState { holder: saved, confirmed, content } = self;
        if saved.pod != holder.pod {
            return Err(Unusable::OtherPod(saved.pod.to_string()));
        }
        if saved.token_subject != holder.token_subject {
            return Err(Unusable::OtherToken(saved.token_subject, holder.token_subject.clone()));
        }
        let age = now.duration_since(confirmed);
        if age < -CLOCK_SKEW_ALLOWANCE {
            return Err(Unusable::FromTheFuture(confirmed));
        }
        if content.workload.not_after <= now {
            return Err(Unusable::Expired(content.workload.not_after));
        }
        let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        if age >= max_age {
            return Err(Unusable::TooOld { confirmed, age, limit: max_age });
        }
        let limit = confirmed.saturating_add(max_age).unwrap_or(Timestamp::MAX);
        Ok(Usable { content, confirmed, limit })
    }
}

impl Content {
    /// Whether a new process would do the same with either; cheap.
    pub fn is_same(&self, other: &Content) -> bool {
        self.copy == other.copy && self.refusals == other.refusals && self.workload == other.workload
    }
}

/// A duration for people.
pub fn whole_seconds(duration: SignedDuration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests;
