//! Waiting for a condition with a deadline, so that no test sleeps for a time somebody guessed.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks: short against anything that tests wait for, long enough to leave a core to what is waited for.
const INTERVAL: Duration = Duration::from_millis(10);

/// What one look at a condition came to: `bool`, `Option` or `Result`.
pub trait Outcome {
    /// What is found when the condition holds.
    type Found;

    /// What was found, or what is missing still.
    fn found(self) -> Result<Self::Found, String>;
}

/// Looks until the condition holds and gives back what was found.
///
/// # Panics
/// When `deadline` has passed; the message says what was missing at the last look.
#[track_caller]
pub fn eventually<O: Outcome>(deadline: Duration, mut look: impl FnMut() -> O) -> O::Found {
    let start = Instant::now();
    loop {
        match look().found() {
            Ok(found) => return found,
            Err(missing) if start.elapsed() >= deadline => panic!("not within {deadline:?}: {missing}"),
            Err(_) => thread::park_timeout(INTERVAL),
        }
    }
}

impl Outcome for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("the condition does not hold".to_owned()) }
    }
}

impl<T> Outcome for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing was found".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        // The alternate form of anyhow's errors holds the causes too.
        self.map_err(|error| format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_that_finds_something_ends_the_wait() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "not within 0ns: no cluster yet")]
    fn the_message_says_what_was_missing() {
        eventually(Duration::ZERO, || Err::<(), _>("no cluster yet"));
    }
}
