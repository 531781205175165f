//! Asks Envoy about itself: often until it is programmed, then now and then, to notice when it hangs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use osm_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::envoy_admin::EnvoyAdmin;
use crate::gate::{self, Answer};
use crate::observer::{Event, Status};
use crate::park::Programmed;
use crate::proc::{ran_and_waited_ns, stat_words};
use crate::stillness::{BEAT, Stillness};

/// While somebody waits for the gate.
const CLOSED_INTERVAL: Duration = Duration::from_millis(20);

/// Otherwise.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// One question may take this long: a machine that starts many pods at once is slow.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// A silent Envoy that works, or would if its turn came, is taking in a large configuration on a busy machine (5,000
/// clusters: ten seconds and more), and killing it would only make it start over. One that works this many limits long
/// without a word is stuck.
const BUSY_LIMITS: u32 = 12;

/// Of one core, in percent: less than this is not work.
const BUSY_PERCENT: u64 = 10;

/// The kernel's unit of processor time in /proc, the same on every Linux that userspace sees (proc(5), sysconf(3)).
const TICK_MS: u64 = 10;

/// An Envoy that is not programmed yet, is asked, and none of whose threads has run or wanted to for so many beats, is
/// stopped or locked up, whether it has ever answered or not. One that is programmed has the pulse.
const STILL_BEATS: u32 = 5;

/// What is known of a run that has answered and then fell silent.
struct Silence {
    run: u64,
    /// Since when it has said nothing.
    since: Instant,
    /// Since when it has said nothing and done nothing.
    still_since: Instant,
    /// When the time of its work was read last, and what it was.
    looked: (Instant, u64),
}

impl Silence {
    fn after_answer(run: u64, pid: u32) -> Silence {
        let now = clock::monotonic();
        Silence { run, since: now, still_since: now, looked: (now, busy_ms(pid)) }
    }

    /// Takes in that the run said nothing once more, and says whether it must be called hung.
    fn goes_on(&mut self, pid: u32, limit: Duration) -> bool {
        let (now, used) = (clock::monotonic(), busy_ms(pid));
        let (then, used_then) = self.looked;
        let elapsed_ms = u64::try_from(now.duration_since(then).as_millis()).unwrap_or(u64::MAX);
        if used.saturating_sub(used_then) * 100 >= elapsed_ms * BUSY_PERCENT {
            self.still_since = now;
        }
        self.looked = (now, used);
        now.duration_since(self.still_since) >= limit || now.duration_since(self.since) >= limit * BUSY_LIMITS
    }
}

/// How long the main thread, which answers, has run or waited for its turn to, in milliseconds; 0 once it is gone. On a
/// kernel that does not count the waiting, the processor time of the whole process.
fn busy_ms(pid: u32) -> u64 {
    match ran_and_waited_ns(format!("/proc/{pid}")) {
        Some((ran, waited)) if ran > 0 => (ran + waited) / 1_000_000,
        Some(_) | None => processor_ms(pid),
    }
}

/// The processor time of a process, in milliseconds; 0 once it is gone.
fn processor_ms(pid: u32) -> u64 {
    // User and system time.
    let words = stat_words(format!("/proc/{pid}"));
    words.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_MS
}

/// Asks until `stop`. A run is reported as hung that has answered before, and then neither says nor does anything for
/// `hung_after`; and one that is not programmed yet as soon as it is seen to do nothing at all.
pub async fn run(
    admin: EnvoyAdmin,
    hung_after: Option<Duration>,
    mut envoy: watch::Receiver<gate::Envoy>,
    status: watch::Receiver<Arc<Status>>,
    events: mpsc::Sender<Event>,
    hung: mpsc::Sender<u64>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (mut heard, mut reported): (Option<Silence>, _) = (None, None);
    let mut stillness = (0, Stillness::default());
    loop {
        let present = envoy.borrow_and_update().clone();
        if let gate::Envoy::Running { run, pid } = present {
            let is_programmed = Programmed::of(&status.borrow(), &present).is_some();
            let beats = (hung_after.is_some() && !is_programmed).then_some(STILL_BEATS);
            if stillness.0 != run {
                stillness = (run, Stillness::default());
            }
            match ask(&admin, run, pid, beats, &mut stillness.1).await {
                Asked::Still => {
                    stillness = (run, Stillness::default());
                    let _ = hung.send(run).await;
                }
                Asked::Answered(answer) => {
                    stillness = (run, Stillness::default());
                    heard = Some(Silence::after_answer(run, pid));
                    if reported.as_ref() != Some(&answer) {
                        reported = Some(answer.clone());
                        let _ = events.send(Event::Answer(answer)).await;
                    }
                }
                Asked::Failed(error) => {
                    tracing::debug!(run, error = format!("{error:#}"), "Envoy does not answer");
                    let silence = heard.as_mut().filter(|silence| silence.run == run);
                    if silence.zip(hung_after).is_some_and(|(silence, limit)| silence.goes_on(pid, limit)) {
                        heard = None;
                        let _ = hung.send(run).await;
                    }
                }
            }
        }
        // The gate may not have heard of this run yet.
        let is_waited_for = !status.borrow().gate.is_open() || Programmed::of(&status.borrow(), &present).is_none();
        let interval = if is_waited_for { CLOSED_INTERVAL } else { OPEN_INTERVAL };
        tokio::select! {
            () = sleep(interval) => {}
            Ok(()) = envoy.changed() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What came of a question.
enum Asked {
    Answered(Answer),
    Failed(anyhow::Error),
    /// Nothing, and the process has done nothing for so many beats as were allowed.
    Still,
}

/// Asks once, and looks meanwhile whether the process does anything, if `beats` says how long it may do nothing.
async fn ask(admin: &EnvoyAdmin, run: u64, pid: u32, beats: Option<u32>, stillness: &mut Stillness) -> Asked {
    let mut is_still = || beats.is_some_and(|beats| stillness.look(pid) >= beats);
    let mut answer = pin!(admin.answer(run, QUESTION_LIMIT));
    loop {
        // An answer that is there counts, however late this task looks.
        tokio::select! {
            biased;
            answer = &mut answer => return match answer {
                Ok(answer) => Asked::Answered(answer),
                // Nobody listens yet: then the question is over at once, and its successors go on looking.
                Err(_) if is_still() => Asked::Still,
                Err(error) => Asked::Failed(error),
            },
            () = sleep(BEAT) => {
                if is_still() {
                    return Asked::Still;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to_and_one_that_is_gone_is_not() {
        let mut works = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let deadline = clock::monotonic() + Duration::from_secs(30);
        for busy in [busy_ms, processor_ms] {
            while busy(works.id()) < 20 {
                assert!(clock::monotonic() < deadline, "it was never seen to work");
                std::thread::yield_now();
            }
        }
        works.kill().unwrap();
        works.wait().unwrap();
        assert_eq!((busy_ms(works.id()), processor_ms(works.id())), (0, 0));
    }
}
