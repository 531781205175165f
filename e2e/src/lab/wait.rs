//! Waiting for a condition with a deadline. Unlike a unit test, a scenario reports what it waited for and goes on to
//! take its lab down, so this gives back an error where `osm_testkit::eventually` panics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Nothing that a scenario waits for takes longer on two busy cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks; each look may start a process.
const INTERVAL: Duration = Duration::from_millis(30);

/// Looks until the look succeeds; after the deadline, the error of the last look.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() > DEADLINE => {
                return Err(error).with_context(|| format!("waited {} s until {what}", DEADLINE.as_secs()));
            }
            Err(_) => std::thread::park_timeout(INTERVAL),
        }
    }
}
