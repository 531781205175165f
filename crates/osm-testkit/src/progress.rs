//! How far a long run is, on stderr.

use std::time::{Duration, Instant};

/// Between two lines; a run that takes less says nothing.
const INTERVAL: Duration = Duration::from_secs(15);

/// How far one run is.
pub struct Progress {
    what: &'static str,
    of: u32,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// A run of so many.
    pub fn new(what: &'static str, of: u32) -> Progress {
        let now = Instant::now();
        Progress { what, of, begun: now, said: now }
    }

    /// So many are done.
    #[expect(clippy::print_stderr, reason = "a person may wait for an hour")]
    pub fn done(&mut self, done: u32) {
        if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            eprintln!("            {:6.0} s  {done} of {} {}", self.begun.elapsed().as_secs_f64(), self.of, self.what);
        }
    }
}
