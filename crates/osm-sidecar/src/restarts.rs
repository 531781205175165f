//! When to start Envoy again after it died. Pure.

use std::time::Duration;

use osm_runtime::Backoff;
use rand::Rng;

/// A run that was never programmed and is shorter than this counts as a failed start.
pub const SHORT_RUN: Duration = Duration::from_secs(1);

/// The same for a run that was programmed: somebody kills it, or it dies of the first connections.
pub const SHORT_PROGRAMMED_RUN: Duration = Duration::from_millis(300);

/// Between failed starts: Envoy that cannot start must not take the node's processor from the others.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(5) };

/// The failed starts in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    failed_starts: u32,
}

/// A run of Envoy that is over, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It carried connections.
    Programmed(Duration),
    /// It never came to that.
    Unprogrammed(Duration),
}

impl Restarts {
    /// How long to wait after a run before Envoy is started again.
    ///
    /// Not at all, unless it was a failed start for the second time in a row: the connections of the application wait.
    pub fn delay_after(&mut self, run: Run, rng: &mut impl Rng) -> Duration {
        let has_failed = match run {
            Run::Programmed(ran_for) => ran_for < SHORT_PROGRAMMED_RUN,
            Run::Unprogrammed(ran_for) => ran_for < SHORT_RUN,
        };
        if !has_failed {
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

    const LONG: Run = Run::Unprogrammed(Duration::from_secs(10));
    const SHORT: Run = Run::Unprogrammed(Duration::from_millis(300));

    fn delays(runs: &[Run]) -> Vec<Duration> {
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
    fn envoy_that_is_killed_soon_after_it_was_programmed_is_started_at_once_unless_it_dies_of_its_work() {
        let after = |ms| Run::Programmed(Duration::from_millis(ms));
        assert!(delays(&[after(300); 20]).iter().all(Duration::is_zero));
        assert!(delays(&[after(299); 12])[11] >= BACKOFF.limit / 2);
    }

    #[test]
    fn a_run_that_lasted_forgives_the_failed_starts() {
        assert!(delays(&[SHORT, SHORT, SHORT, LONG, SHORT])[4].is_zero());
    }
}
