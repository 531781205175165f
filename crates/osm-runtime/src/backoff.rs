//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

/// Delays that double from `first` up to `limit`, each spread over its upper half, so that many who failed together
/// do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure, before spreading.
    pub first: Duration,
    /// No delay is longer.
    pub limit: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row. Zero failures wait for nothing.
    pub fn delay(&self, failures: u32, rng: &mut impl RngExt) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let full = self.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.limit);
        full.mul_f64(rng.random_range(0.5..=1.0)).min(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    proptest! {
        #[test]
        fn a_delay_is_between_half_and_whole_of_its_step_and_never_above_the_limit(
            failures in 1..u32::MAX, first_ms in 1..10_000_u64, limit_ms in 1..100_000_u64, seed: u64,
        ) {
            let backoff = Backoff { first: Duration::from_millis(first_ms), limit: Duration::from_millis(limit_ms) };
            let step = first_ms.saturating_mul(2_u64.checked_pow(failures - 1).unwrap_or(u64::MAX)).min(limit_ms);
            let delay = backoff.delay(failures, &mut StdRng::seed_from_u64(seed));
            prop_assert!(delay <= Duration::from_millis(step));
            prop_assert!(delay + Duration::from_nanos(1) >= Duration::from_millis(step) / 2);
        }
    }

    #[test]
    fn without_a_failure_there_is_no_delay() {
        let backoff = Backoff { first: Duration::from_secs(1), limit: Duration::from_secs(9) };
        assert_eq!(backoff.delay(0, &mut StdRng::seed_from_u64(1)), Duration::ZERO);
    }
}
