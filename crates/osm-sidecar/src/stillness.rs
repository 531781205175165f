//! Whether a process that does not answer does anything at all: being slow looks different from being stopped or locked up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use osm_runtime::clock;
use tokio::time::Instant;

use crate::proc::{ran_and_waited_ns, stat_words};

/// Between two looks. Stillness is counted in looks, not in time: an agent that was not running itself has seen nothing.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// Less processor time than this in a beat is not work.
const WORK_NS: u64 = 1_000_000;

/// How a process's threads spend their time, from one beat to the next.
#[derive(Debug, Default)]
pub(crate) struct Stillness {
    /// What they had run at the last look, and when that was.
    last: Option<(Instant, u64)>,
    beats: u32,
}

impl Stillness {
    /// In how many beats without a break no thread has run or wanted to, this one included. Called more often than once in
    /// a beat, it does not look.
    pub(crate) fn look(&mut self, pid: u32) -> u32 {
        let now = clock::monotonic();
        if self.last.is_some_and(|(at, _)| now.duration_since(at) < BEAT) {
            return self.beats;
        }
        let (ran_ns, is_running) = threads(pid);
        let has_worked = self.last.is_some_and(|(_, before)| ran_ns.saturating_sub(before) >= WORK_NS);
        self.beats = if is_running || has_worked { 0 } else { self.beats + 1 };
        self.last = Some((now, ran_ns));
        self.beats
    }
}

/// How long the threads of a process have run together, and whether one of them runs, waits for its turn to, or waits
/// for a disk. A thread that waits for its turn is not counted by the kernel before it gets it.
fn threads(pid: u32) -> (u64, bool) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).fold((0, false), |(sum, any), thread| {
        let ran = ran_and_waited_ns(&thread).map_or(0, |(ran, _)| ran);
        (sum + ran, any || is_running(&thread))
    })
}

/// A thread that somebody debugs counts, too: that is no fault of Envoy's.
pub(crate) fn is_running(thread: &Path) -> bool {
    matches!(stat_words(thread).first().map(String::as_str), Some("R" | "D" | "t"))
}
