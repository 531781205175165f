//! One list and watch that never ends: it waits after a failure, and begins again.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Error, Resource};
use osm_runtime::{Backoff, chance};
use rand::rngs::StdRng;
use serde::de::DeserializeOwned;

/// Between attempts. An API server that restarts is away for seconds, and ten controllers must not hold it down.
const RETRY: Backoff = Backoff { first: Duration::from_millis(400), limit: Duration::from_secs(20) };

/// A watch is asked for anew this often, so that one whose peer vanished is noticed.
const WATCH_SECONDS: u32 = 60;

/// Objects in one answer; more would make the API server hold them all at once.
const PAGE_OBJECTS: u32 = 500;

/// The watch of one kind.
pub(super) struct Watch<K> {
    api: Api<K>,
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    failures: u32,
    rng: StdRng,
}

/// A watch that failed, and will be tried again.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub(super) error: watcher::Error,
    /// How often in a row.
    pub(super) failures: u32,
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Begins with a list.
    pub(super) fn new(api: Api<K>) -> Watch<K> {
        Watch { events: begin(api.clone()), api, failures: 0, rng: chance::generator() }
    }

    /// The next event. After a failure it comes late.
    pub(super) async fn next(&mut self) -> Result<Event<K>, Failed> {
        tokio::time::sleep(RETRY.delay(self.failures, &mut self.rng)).await;
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    // To begin is no success yet.
                    if !matches!(event, Event::Init) {
                        self.failures = 0;
                    }
                    return Ok(event);
                }
                Some(Err(error)) => {
                    self.failures = self.failures.saturating_add(1);
                    if is_gone(&error) {
                        self.events = begin(self.api.clone());
                    }
                    return Err(Failed { error, failures: self.failures });
                }
                None => self.events = begin(self.api.clone()),
            }
        }
    }
}

fn begin<K>(api: Api<K>) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_OBJECTS)).boxed()
}

/// Whether the version that the watch would go on from is no longer kept, which only a list can mend.
fn is_gone(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(Error::Api(status))
        | watcher::Error::WatchStartFailed(Error::Api(status))
        | watcher::Error::WatchFailed(Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return false,
    };
    code == 410
}
