//! The one loop: what sources say becomes what every proxy is told. It alone owns the World.

mod core;
mod debounce;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use osm_api::{Change, Changed, Problem};
use osm_runtime::health::Pending;
use osm_runtime::{Heartbeat, clock};
use osm_source::Event;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::core::{Core, Snapshot};
pub(crate) use self::debounce::{Debounce, Window};
use crate::metrics::Metrics;
use crate::proxies::Proxies;

/// How often the loop turns when nothing happens, to show that it can.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The loop's sign of life is late after this long: far longer than publishing a large mesh takes.
pub(crate) const BEAT_LIMIT: Duration = Duration::from_secs(60);

/// What the loop owns.
#[derive(Debug)]
pub(crate) struct Control {
    /// None only while it is at work on another thread.
    core: Option<Core>,
    debounce: Debounce,
    proxies: Proxies,
    metrics: Metrics,
    heartbeat: Heartbeat,
    /// Nothing is published before every source is in sync.
    out_of_sync: Option<Pending>,
    /// How many sources are not in sync yet.
    sources_awaited: usize,
    /// Those that were said.
    problems: BTreeSet<Problem>,
    /// Where new ones are told besides, as far as there is room.
    complaints: Option<Sender<Problem>>,
}

impl Control {
    /// A loop that tells `proxies` what so many sources say. `out_of_sync` is dropped after the first publication.
    pub(crate) fn new(
        core: Core,
        proxies: Proxies,
        metrics: Metrics,
        heartbeat: Heartbeat,
        sources: usize,
        out_of_sync: Pending,
        complaints: Option<Sender<Problem>>,
    ) -> Control {
        Control {
            core: Some(core),
            debounce: Debounce::new(Window::default()),
            proxies,
            metrics,
            heartbeat,
            out_of_sync: Some(out_of_sync),
            sources_awaited: sources,
            problems: BTreeSet::new(),
            complaints,
        }
    }

    /// Turns until `stop`.
    pub(crate) async fn run(mut self, mut events: Receiver<Event>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            self.heartbeat.beat();
            let due = self.debounce.due().filter(|_| self.sources_awaited == 0);
            let wake = due.unwrap_or_else(|| clock::monotonic() + BEAT_INTERVAL);
            tokio::select! {
                // What is due goes before what is new, or a stream of changes could hold it back for ever.
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(wake) => if due.is_some() { self.publish().await? },
                event = events.recv() => self.take(event.context("every source ended")?, clock::monotonic()),
            }
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Changes(changes) => {
                changes.iter().for_each(|change| self.count(change));
                if self.core().apply(changes) == Changed::Something {
                    self.debounce.note(now);
                }
            }
            Event::Problems { file, problems } => {
                // Said here and not only when published: they may be what keeps the source from getting in sync.
                self.log_new(&problems);
                self.core().set_problems(file, problems);
                self.debounce.note(now);
            }
            Event::InSync => {
                self.sources_awaited = self.sources_awaited.saturating_sub(1);
                tracing::info!(awaited = self.sources_awaited, "a source is in sync");
                self.debounce.note(now);
            }
        }
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("the core is back before the next event is taken")
    }

    fn count(&self, change: &Change) {
        let (key, verb) = match change {
            Change::Apply(object, _) => (object.key(), "updated"),
            Change::Delete(key) => (key.clone(), "deleted"),
        };
        self.metrics.count_event(key.kind, verb, &key.namespace);
    }

    async fn publish(&mut self) -> anyhow::Result<()> {
        let mut core = self.core.take().expect("the core is back before the next publication");
        let metrics = self.metrics.clone();
        // On a thread of its own: the sessions go on while a large mesh is resolved.
        let work = tokio::task::spawn_blocking(move || {
            let start = clock::monotonic();
            core.resolve();
            metrics.resolve_seconds.observe(start.elapsed().as_secs_f64());
            let start = clock::monotonic();
            let snapshot = core.publish();
            metrics.translate_seconds.observe(start.elapsed().as_secs_f64());
            (core, snapshot)
        });
        // Changes that come from here on are in the queue, and not in this snapshot.
        let waited_since = self.debounce.publish(clock::monotonic());
        let (core, snapshot) = work.await.context("resolving and translating")?;
        self.core = Some(core);
        self.log_new(&*snapshot.problems);
        self.log_gone(&snapshot.problems);
        self.metrics.show(&snapshot);
        tracing::debug!(
            objects = snapshot.world.keys().len(),
            services = snapshot.mesh.services.len(),
            proxies = snapshot.mesh.proxies.len(),
            classes = snapshot.classes.len(),
            "published"
        );
        self.proxies.publish(snapshot);
        if let Some(since) = waited_since {
            self.metrics.push_seconds.observe(since.elapsed().as_secs_f64());
        }
        drop(self.out_of_sync.take());
        Ok(())
    }

    /// Each problem is said once, when it is new.
    fn log_new<'a>(&mut self, problems: impl IntoIterator<Item = &'a Problem>) {
        for problem in problems {
            if self.problems.insert(problem.clone()) {
                tracing::warn!(%problem, "problem");
                if let Some(complaints) = &self.complaints {
                    // One that finds no room is in the log.
                    let _ = complaints.try_send(problem.clone());
                }
            }
        }
    }

    fn log_gone(&mut self, problems: &BTreeSet<Problem>) {
        self.problems.retain(|problem| {
            let is_there = problems.contains(problem);
            if !is_there {
                tracing::info!(%problem, "problem is gone");
            }
            is_there
        });
    }
}
