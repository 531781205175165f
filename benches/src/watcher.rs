//! `osm-demo watch`, and when it saw what.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Longer than any change takes, even on a busy machine; then something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that asks many servers and tells when an answer changes.
pub(crate) struct Watcher {
    child: Child,
    changes: Receiver<Change>,
    statuses: Vec<u16>,
}

struct Change {
    seen: Instant,
    index: usize,
    status: u16,
}

impl Watcher {
    /// `command` runs `osm-demo watch` with this many URLs.
    pub(crate) fn start(mut command: Command, urls: usize) -> Result<Watcher> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting osm-demo watch")?;
        let output = child.stdout.take().context("its output is piped")?;
        let (sender, changes) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let seen = Instant::now();
                let Some((index, status)) = line.split_once(' ') else { continue };
                let (Ok(index), Ok(status)) = (index.parse(), status.parse()) else { continue };
                if sender.send(Change { seen, index, status }).is_err() {
                    return;
                }
            }
        });
        Ok(Watcher { child, changes, statuses: vec![0; urls] })
    }

    /// Waits until every server answers with this status, and gives back when the last of them was seen to.
    pub(crate) fn wait_until_all(&mut self, status: u16) -> Result<Instant> {
        let mut last = Instant::now();
        while self.statuses.iter().any(|found| *found != status) {
            let change = self
                .changes
                .recv_timeout(PATIENCE)
                .with_context(|| format!("waiting until all answer with {status}; they answer {:?}", self.statuses))?;
            self.statuses[change.index] = change.status;
            last = change.seen;
        }
        Ok(last)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Already ended is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
