//! Keeps the last good state on disk, soon after it changes and as long as the controller stands by it, without ever
//! holding up what carries traffic.
//!
//! A state that has been replaced must not come back: if its successor cannot be written, it is removed, because it may
//! grant what has been revoked since.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use osm_runtime::clock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Content, Holder, LastGoodState, encode};
use crate::config::Pod;
use crate::state_dir::StateDir;

/// After a write, the pause before the next change is written is so many times what the write took: a small state is
/// kept within milliseconds of every change, and a large one of a busy mesh does not keep a processor busy.
const PAUSE_TIMES: u32 = 20;

/// No pause is longer: what a change takes back must not be found again after a restart.
const PAUSE_LIMIT: Duration = Duration::from_secs(1);

/// An unchanged state is written again after this, to say that the controller still stands by it.
const REFRESH: Duration = Duration::from_secs(60);

/// After a failure. A full disk is not better a second later.
const RETRY: Duration = Duration::from_secs(30);

/// What the writer needs.
#[derive(Debug)]
pub struct Saver {
    /// Where to.
    pub state_dir: StateDir,
    /// Whose state it is.
    pub pod: Pod,
    /// The pod's token.
    pub token_file: PathBuf,
    /// How old a state may be; it is confirmed more often than that.
    pub max_age: Duration,
    /// What is in force, accepted by Envoy and the controller's present word; none while that is not so.
    pub good: watch::Receiver<Option<Arc<Content>>>,
    /// What the file holds.
    pub on_disk: Option<Arc<Content>>,
}

/// What the file is to hold.
#[derive(Debug)]
struct Wanted {
    content: Arc<Content>,
    /// When the controller was last known to stand by it; none if it does now.
    ceased: Option<Timestamp>,
}

/// How the last attempt went.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// When it was over.
    at: Instant,
    took: Duration,
    has_failed: bool,
}

impl Saver {
    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut wanted, mut last) = (None, None);
        loop {
            match self.good.borrow_and_update().clone() {
                Some(content) => wanted = Some(Wanted { content, ceased: None }),
                None => {
                    if let Some(wanted) = &mut wanted {
                        wanted.ceased.get_or_insert_with(clock::now);
                    }
                }
            }
            let due = wanted.as_ref().and_then(|wanted| self.due(wanted, last));
            let is_due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All are cancel safe. The sender lives as long as the agent.
            let is_over = tokio::select! {
                () = is_due => false,
                Ok(()) = self.good.changed() => continue,
                () = stop.cancelled() => true,
            };
            let Some(wanted) = wanted.as_ref().filter(|wanted| !is_over || !self.holds(wanted)) else { return Ok(()) };
            let was_failing = last.is_some_and(|last: Attempt| last.has_failed);
            let start = clock::monotonic();
            let has_failed = !self.keep(wanted, was_failing).await;
            last = Some(Attempt { at: clock::monotonic(), took: start.elapsed(), has_failed });
            if is_over {
                return Ok(());
            }
        }
    }

    /// When to write; none if there is nothing to write.
    fn due(&self, wanted: &Wanted, last: Option<Attempt>) -> Option<Instant> {
        let pause = match last {
            Some(last) if last.has_failed => RETRY,
            Some(last) if !self.holds(wanted) => (last.took * PAUSE_TIMES).min(PAUSE_LIMIT),
            None if !self.holds(wanted) => Duration::ZERO,
            Some(_) | None if wanted.ceased.is_none() => REFRESH.min(self.max_age / 4),
            Some(_) | None => return None,
        };
        Some(last.map_or_else(clock::monotonic, |last| last.at + pause))
    }

    fn holds(&self, wanted: &Wanted) -> bool {
        self.on_disk.as_ref().is_some_and(|on_disk| on_disk.is_same(&wanted.content))
    }

    /// Whether the file holds it now.
    async fn keep(&mut self, wanted: &Wanted, was_failing: bool) -> bool {
        let is_outdated = !self.holds(wanted);
        let state = LastGoodState {
            holder: Holder::new(&self.pod, &self.token_file),
            confirmed: wanted.ceased.unwrap_or_else(clock::now),
            content: wanted.content.clone(),
        };
        let dir = self.state_dir.clone();
        let written = tokio::task::spawn_blocking(move || write(&dir, &state, is_outdated)).await;
        match written.context("writing the last good state").flatten() {
            Ok(bytes) => {
                self.on_disk = Some(wanted.content.clone());
                tracing::debug!(bytes, "the last good state is kept");
                if was_failing {
                    tracing::info!("the last good state is kept again");
                }
                true
            }
            Err(error) => {
                if is_outdated {
                    self.on_disk = None;
                }
                if !was_failing {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the last good state cannot be kept: a restart would wait for the controller"
                    );
                }
                false
            }
        }
    }
}

/// How many bytes were written. What is on disk is given up if it is outdated and in the way.
fn write(dir: &StateDir, state: &LastGoodState, is_outdated: bool) -> anyhow::Result<usize> {
    let file = dir.last_good();
    let attempt = || {
        let bytes = encode(state)?;
        let written = dir.write(&file, &bytes);
        if written.is_err() && is_outdated {
            // Two states do not fit, one may.
            dir.remove(&file)?;
            dir.write(&file, &bytes)?;
        } else {
            written?;
        }
        Ok(bytes.len())
    };
    attempt().inspect_err(|_| {
        if is_outdated && let Err(error) = dir.remove(&file) {
            tracing::error!(error = format!("{error:#}"), "an outdated last good state cannot be removed");
        }
    })
}

#[cfg(test)]
mod tests;
