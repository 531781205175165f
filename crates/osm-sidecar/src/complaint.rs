//! Says the same thing in the log only now and then.

use std::time::Duration;

use tokio::time::Instant;

/// An unchanged reason is repeated after this.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was last said, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    /// Whether `what` is to be said at `now`: when it is new, or when a minute has passed.
    pub(crate) fn is_due(&mut self, what: &str, now: Instant) -> bool {
        let is_old = self.last.as_ref().is_some_and(|(last, at)| last == what && now.duration_since(*at) < INTERVAL);
        if !is_old {
            self.last = Some((what.to_owned(), now));
        }
        !is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_said_once_a_minute_and_a_new_one_at_once() {
        let (mut complaint, now) = (Complaint::default(), osm_runtime::clock::monotonic());
        assert!(complaint.is_due("refused", now));
        assert!(!complaint.is_due("refused", now + INTERVAL / 2));
        assert!(complaint.is_due("expired", now + INTERVAL / 2));
        assert!(!complaint.is_due("expired", now + INTERVAL));
        assert!(complaint.is_due("expired", now + INTERVAL * 2));
    }
}
