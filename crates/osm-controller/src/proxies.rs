//! What each connected proxy is to be told: its pod's class decides, and the loop says when that changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osm_model::{Identity, PodName};
use osm_runtime::clock;
use osm_xds::Resources;
use tokio::sync::watch;

use crate::control::Snapshot;

/// Followers that went are swept out when there are this many, so that the map is bounded by those that are there.
const FIRST_SWEEP: usize = 1024;

/// A pod as its token names it. A pod of the same name with another identity is told nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proxy {
    /// Which pod.
    pub(crate) pod: PodName,
    /// Who it is.
    pub(crate) identity: Identity,
}

/// The proxies that are connected. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    state: Arc<Mutex<State>>,
    /// Told after each publication.
    published: Arc<watch::Sender<()>>,
}

/// What one proxy is to be told: nothing before its pod is known, and then always something.
pub(crate) type Following = watch::Receiver<Option<Arc<Resources>>>;

#[derive(Debug, Default)]
struct State {
    snapshot: Option<Snapshot>,
    followers: BTreeMap<Proxy, watch::Sender<Option<Arc<Resources>>>>,
    sweep_at: usize,
}

impl Proxies {
    /// What this proxy is to be told now, and on every change.
    pub(crate) fn follow(&self, proxy: &Proxy) -> Following {
        let mut state = self.lock();
        if let Some(sender) = state.followers.get(proxy) {
            return sender.subscribe();
        }
        if state.followers.len() >= state.sweep_at.max(FIRST_SWEEP) {
            state.sweep();
        }
        let now = state.snapshot.as_ref().and_then(|snapshot| resources(snapshot, proxy));
        let (sender, following) = watch::channel(now);
        state.followers.insert(proxy.clone(), sender);
        following
    }

    /// Tells every proxy for which something changed.
    ///
    /// A pod that is no longer known keeps what it was told: it is on its way out, or an object that it depends on is
    /// being replaced; to empty its proxy would cut its connections.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        state.sweep();
        for (proxy, sender) in &state.followers {
            let Some(now) = resources(&snapshot, proxy) else { continue };
            sender.send_if_modified(|told| {
                let is_new = told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, &now));
                if is_new {
                    *told = Some(now);
                }
                is_new
            });
        }
        state.snapshot = Some(snapshot);
        self.published.send_replace(());
    }

    /// What `look` says of what was published, as soon as that is good, and at the latest after `limit`. None if nothing
    /// was published by then.
    pub(crate) async fn when<T, E>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&Snapshot) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let end = clock::monotonic() + limit;
        let mut published = self.published.subscribe();
        loop {
            published.borrow_and_update();
            let now = self.snapshot().map(|snapshot| look(&snapshot));
            if matches!(now, Some(Ok(_))) {
                return now;
            }
            if !matches!(tokio::time::timeout_at(end, published.changed()).await, Ok(Ok(()))) {
                return now;
            }
        }
    }

    /// Told after each publication.
    pub(crate) fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// What was published last.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.lock().snapshot.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sweep(&mut self) {
        self.followers.retain(|_, sender| sender.receiver_count() > 0);
        self.sweep_at = 2 * self.followers.len();
    }
}

/// What this proxy is to be told, by what was published.
pub(crate) fn resources(snapshot: &Snapshot, proxy: &Proxy) -> Option<Arc<Resources>> {
    let class = snapshot.mesh.proxies.get(&proxy.pod).filter(|class| class.identity == proxy.identity)?;
    snapshot.classes.get(class).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Core;
    use osm_api::ManifestSet;
    use osm_resolve::ResolveOptions;

    fn proxy(name: &str) -> Proxy {
        let namespace = || "shop".to_owned();
        let pod = PodName { namespace: namespace(), name: name.to_owned() };
        Proxy { pod, identity: Identity { namespace: namespace(), service_account: "default".to_owned() } }
    }

    fn publish(proxies: &Proxies, core: &mut Core, pods: &[&str]) {
        let mut text =
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}\n"
                .to_owned();
        for pod in pods {
            text += &format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: shop, annotations: {{openservicemesh.io/injected: 'init: x'}}}}\nspec: {{containers: [{{name: a}}]}}\n"
            );
        }
        core.apply(ManifestSet::default().put("m.yaml", &text).changes);
        proxies.publish(core.publish());
    }

    #[test]
    fn pods_of_one_class_follow_one_value_and_are_woken_only_when_it_changes() {
        let (proxies, mut core) = (Proxies::default(), Core::new(ResolveOptions::default()));
        let mut early = proxies.follow(&proxy("a"));
        assert!(early.borrow_and_update().is_none());
        publish(&proxies, &mut core, &["a", "b"]);
        assert!(early.has_changed().unwrap());
        let told = early.borrow_and_update().clone().unwrap();
        let second = proxies.follow(&proxy("b")).borrow().clone().unwrap();
        assert!(Arc::ptr_eq(&told, &second));
        publish(&proxies, &mut core, &["a", "b", "c"]);
        assert!(!early.has_changed().unwrap());
    }

    #[test]
    fn followers_that_went_are_forgotten() {
        let (proxies, mut core) = (Proxies::default(), Core::new(ResolveOptions::default()));
        let stays = proxies.follow(&proxy("stays"));
        for index in 0..3 * FIRST_SWEEP {
            drop(proxies.follow(&proxy(&index.to_string())));
        }
        assert!(proxies.lock().followers.len() <= FIRST_SWEEP);
        publish(&proxies, &mut core, &[]);
        assert_eq!(proxies.lock().followers.len(), 1);
        drop(stays);
    }
}
