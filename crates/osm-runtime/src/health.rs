//! Health that means something: what is still missing before work can be taken, and whether the loops still turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// What must happen before this process can do its work. Ready when nothing is pending.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One thing that has not happened yet; drop it when it has.
#[derive(Debug)]
#[must_use = "dropping this says that the thing has happened"]
pub struct Pending {
    of: Readiness,
    what: String,
}

impl Readiness {
    /// Says that `what` must happen before the process is ready.
    pub fn pending(&self, what: impl Into<String>) -> Pending {
        let what = what.into();
        *self.lock().entry(what.clone()).or_default() += 1;
        Pending { of: self.clone(), what }
    }

    /// What has not happened yet, in order of names.
    pub fn list(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Whether nothing is pending.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = self.of.lock();
        if let Some(count) = pending.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.what);
            }
        }
    }
}

/// Whether every loop that must turn still turns.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    loops: Arc<Mutex<BTreeMap<String, Beat>>>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    last: Instant,
    limit: Duration,
}

/// One loop's sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    of: Liveness,
    name: String,
}

impl Liveness {
    /// Says that the loop `name` turns at least every `limit`.
    pub fn heartbeat(&self, name: impl Into<String>, limit: Duration) -> Heartbeat {
        let name = name.into();
        self.lock().insert(name.clone(), Beat { last: clock::monotonic(), limit });
        Heartbeat { of: self.clone(), name }
    }

    /// The loops that, at `now`, have not turned for longer than they said, each with how long.
    pub fn stuck(&self, now: Instant) -> Vec<(String, Duration)> {
        let loops = self.lock();
        let late = loops.iter().map(|(name, beat)| (name, now.duration_since(beat.last), beat.limit));
        late.filter(|(_, silent, limit)| silent > limit).map(|(name, silent, _)| (name.clone(), silent)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// The loop has turned.
    pub fn beat(&self) {
        if let Some(beat) = self.of.lock().get_mut(&self.name) {
            beat.last = clock::monotonic();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_of_two_equal_guards_is_dropped() {
        let readiness = Readiness::default();
        let (first, second) = (readiness.pending("sources"), readiness.pending("sources"));
        drop(first);
        assert_eq!(readiness.list(), ["sources"]);
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_loop_that_stops_is_stuck_until_it_turns_again() {
        let (liveness, limit) = (Liveness::default(), Duration::from_millis(1));
        let heartbeat = liveness.heartbeat("control loop", limit);
        let before = clock::monotonic();
        assert!(liveness.stuck(before).is_empty());
        let later = before + Duration::from_secs(6);
        let stuck = liveness.stuck(later);
        assert_eq!(stuck[0].0, "control loop");
        assert!(stuck[0].1 >= Duration::from_secs(6));
        while clock::monotonic() == before {}
        heartbeat.beat();
        assert!(liveness.stuck(later)[0].1 < stuck[0].1);
    }
}
