//! Directories of manifests: `*.yaml`, `*.yml` and `*.json`, watched. Names that begin with a dot are not read, so
//! that a file can be written under one and moved into place.
//!
//! A file that goes takes its objects with it. A file that cannot be read, and a directory that is missing, keep
//! theirs: a volume that is being swapped must not cut the traffic of a mesh.

mod dirty;
mod scan;
mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::Event;
use dirty::SharedDirty;
use watched::Watched;

/// While a directory is missing nothing tells of its return, so it is looked for this often.
const MISSING_INTERVAL: Duration = Duration::from_millis(10);

/// How often it is checked that what is watched is still what the path names; the kernel does not tell of every swap.
const IDENTITY_INTERVAL: Duration = Duration::from_secs(1);

/// Says what the manifests in `directories` hold and how that changes, until `stop`, or until nobody listens.
///
/// In sync when every directory has been read once; one that is missing at the start is waited for.
pub async fn run(directories: Vec<PathBuf>, events: Sender<Event>, stop: CancellationToken) -> anyhow::Result<()> {
    let dirty = Arc::new(SharedDirty::new(directories.clone()));
    let mut watched = Watched::new(directories, &dirty).context("starting to watch directories")?;
    let mut is_in_sync = false;
    loop {
        let todo = dirty.take();
        let step = tokio::task::spawn_blocking(move || {
            let said = watched.step(&todo);
            (watched, said)
        });
        let (returned, said) = step.await.context("reading manifests")?;
        watched = returned;
        let now_in_sync = (!is_in_sync && watched.were_all_read()).then_some(Event::InSync);
        is_in_sync |= now_in_sync.is_some();
        for event in said.into_iter().chain(now_in_sync) {
            tokio::select! {
                sent = events.send(event) => if sent.is_err() { return Ok(()) },
                () = stop.cancelled() => return Ok(()),
            }
        }
        let interval = if watched.is_any_missing() { MISSING_INTERVAL } else { IDENTITY_INTERVAL };
        tokio::select! {
            () = dirty.wait() => {}
            () = tokio::time::sleep(interval) => {}
            () = events.closed() => return Ok(()),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
