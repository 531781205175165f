//! What the proxies that are connected here have answered for of their load assignments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osm_xds::Resources;
use tokio::sync::Notify;

use crate::proxies::Proxy;

/// The open sessions by number. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    open: Arc<Mutex<BTreeMap<u64, Peer>>>,
    changed: Arc<Notify>,
}

/// The proxy of one session.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Whose it is.
    pub(crate) proxy: Proxy,
    /// The load assignments that it has answered for; none before the first answer on this stream.
    pub(crate) answered: Option<Arc<Resources>>,
    /// It let a limit pass: nobody waits for it until it answers again.
    pub(crate) is_given_up: bool,
}

impl Answers {
    /// A session is open.
    pub(crate) fn opened(&self, session: u64, proxy: Proxy) {
        self.lock().insert(session, Peer { proxy, answered: None, is_given_up: false });
    }

    /// Its proxy has answered for these.
    pub(crate) fn answered(&self, session: u64, resources: Arc<Resources>) {
        if let Some(peer) = self.lock().get_mut(&session) {
            peer.answered = Some(resources);
            peer.is_given_up = false;
        }
        self.changed.notify_one();
    }

    /// A session is over.
    pub(crate) fn closed(&self, session: u64) {
        self.lock().remove(&session);
        self.changed.notify_one();
    }

    /// Nobody waits for these any more.
    pub(super) fn give_up(&self, sessions: impl IntoIterator<Item = u64>) {
        let mut open = self.lock();
        for session in sessions {
            if let Some(peer) = open.get_mut(&session) {
                peer.is_given_up = true;
            }
        }
    }

    /// Returns when something has changed since the last return.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All of them, as they are now.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Peer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
