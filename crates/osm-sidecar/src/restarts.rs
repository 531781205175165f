//! When to start Envoy again after it died. Pure.

use std::time::Duration;

use osm_runtime::Backoff;
use rand::Rng;

/// A run shorter than this counts as a failed start.
pub const SHORT_RUN: Duration = Duration::from_secs(1);

/// Between failed starts: Envoy that cannot start must not take the node's processor from the others.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(5) };

/// The failed starts in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    failed_starts: u32,
}

impl Restarts {
    /// Envoy ended after `ran_for`: how long to wait before it is started again.
    ///
    /// At once, unless it died within a second for the second time in a row: the connections of the application wait.
    pub fn delay_after(&mut self, ran_for: Duration, rng: &mut impl Rng) -> Duration {
        if ran_for >= SHORT_RUN {
            self.failed_starts = 0;
            return Duration::ZERO;
        }
        self.failed_starts = self.failed_starts.saturating_add(1);
        BACKOFF.delay(self.failed_starts - 1, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(300);

    fn delays(runs: &[Duration]) -> Vec<Duration> {
        let (mut restarts, mut rng) = (Restarts::default(), StdRng::seed_from_u64(7));
        runs.iter().map(|run| restarts.delay_after(*run, &mut rng)).collect()
    }

    #[test]
    fn envoy_that_ran_is_started_again_at_once_however_often_it_dies() {
        assert!(delays(&[LONG; 20]).iter().all(Duration::is_zero));
    }

    #[test]
    fn the_first_failed_start_is_repeated_at_once_and_the_next_ones_ever_later() {
        let delays = delays(&[SHORT; 12]);
        assert!(delays[0].is_zero());
        assert!(delays[1] >= Duration::from_millis(50) && delays[1] <= Duration::from_millis(100), "{delays:?}");
        assert!(delays[2] >= Duration::from_millis(100) && delays[2] <= Duration::from_millis(200), "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= BACKOFF.limit));
        assert!(delays[11] >= BACKOFF.limit / 2, "{delays:?}");
    }

    #[test]
    fn a_run_that_lasted_forgives_the_failed_starts() {
        assert!(delays(&[SHORT, SHORT, SHORT, LONG, SHORT])[4].is_zero());
    }
}
