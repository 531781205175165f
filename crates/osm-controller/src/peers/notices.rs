//! What each pod's agent is told about its pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osm_ads::Notice;
use osm_model::PodName;
use tokio::sync::watch;

/// The word for each pod. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    /// Bounded by the pods of the mesh and the sessions: see [`Notices::keep`].
    pods: Arc<Mutex<BTreeMap<PodName, watch::Sender<Notice>>>>,
}

impl Notices {
    /// What this pod's agent is told now, and on every change.
    pub(crate) fn follow(&self, pod: &PodName) -> watch::Receiver<Notice> {
        self.lock().entry(pod.clone()).or_default().subscribe()
    }

    /// Has this pod's agent told this from now on.
    pub(crate) fn tell(&self, pod: &PodName, notice: Notice) {
        let mut pods = self.lock();
        match pods.get(pod) {
            Some(sender) => {
                sender.send_if_modified(|told| std::mem::replace(told, notice) != notice);
            }
            // It is what everybody begins with.
            None if notice == Notice::default() => {}
            None => {
                pods.insert(pod.clone(), watch::channel(notice).0);
            }
        }
    }

    /// Forgets all pods that nobody follows but these.
    pub(crate) fn keep(&self, mut exists: impl FnMut(&PodName) -> bool) {
        self.lock().retain(|pod, sender| sender.receiver_count() > 0 || exists(pod));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodName, watch::Sender<Notice>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
