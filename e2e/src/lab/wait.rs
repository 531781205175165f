//! Waiting for a condition with a deadline. Unlike a unit test, a scenario reports what it waited for and goes on to
//! take its lab down, so this gives back an error where `osm_testkit::eventually` panics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// In seconds. Nothing that a scenario waits for takes longer on two busy cores.
static DEADLINE: AtomicU64 = AtomicU64::new(60);

/// Between two looks, at least. Each look may start a process, so that it is not more often than every other moment that
/// one runs.
const INTERVAL: Duration = Duration::from_millis(30);

/// Looks until the look succeeds; after the deadline, the error of the last look.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let (start, deadline) = (Instant::now(), DEADLINE.load(Ordering::Relaxed));
    loop {
        let begun = Instant::now();
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() > Duration::from_secs(deadline) => {
                return Err(error).with_context(|| format!("waited {deadline} s until {what}"));
            }
            Err(_) => std::thread::park_timeout(INTERVAL.max(begun.elapsed())),
        }
    }
}

/// Runs what is expected to wait in vain, with another deadline.
pub(crate) fn with_deadline<T>(seconds: u64, run: impl FnOnce() -> T) -> T {
    let before = DEADLINE.swap(seconds, Ordering::Relaxed);
    let result = run();
    DEADLINE.store(before, Ordering::Relaxed);
    result
}
