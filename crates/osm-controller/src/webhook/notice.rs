//! Events about pods that stay out of the mesh though their users asked for it.
//!
//! An Event is a courtesy: they are few, said once in a while, and one that cannot be written is only logged.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::PostParams;
use kube::{Api, Client};
use osm_api::k8s;
use osm_runtime::clock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event;

/// Events that may wait. What comes when they are this many is dropped.
pub(crate) const QUEUE: usize = 64;

/// The same is said again after this long: an Event itself is kept for an hour.
const SILENCE: Duration = Duration::from_secs(600);

/// Remembered at most, so that a flood of pods takes no memory.
const REMEMBERED_MAX: usize = 1024;

/// How long writing one may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// One thing to say about one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    /// About what.
    pub(crate) about: k8s::ObjectReference,
    /// What.
    pub(crate) message: String,
}

/// What a notice about a pod that is being made is about: what makes it, else the pod, else its namespace. The pod has
/// no uid yet, and often no name.
pub(crate) fn about(pod: &k8s::Pod, namespace: &str) -> k8s::ObjectReference {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    let named = pod.metadata.name.clone().filter(|name| !name.is_empty());
    let in_namespace = k8s::ObjectReference { namespace: Some(namespace.to_owned()), ..Default::default() };
    let v1 = || Some("v1".to_owned());
    match (owner, named) {
        (Some(owner), _) => k8s::ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            name: Some(owner.name.clone()),
            uid: Some(owner.uid.clone()),
            ..in_namespace
        },
        (None, Some(name)) => {
            k8s::ObjectReference { api_version: v1(), kind: Some("Pod".to_owned()), name: Some(name), ..in_namespace }
        }
        (None, None) => k8s::ObjectReference {
            api_version: v1(),
            kind: Some("Namespace".to_owned()),
            name: Some(namespace.to_owned()),
            ..k8s::ObjectReference::default()
        },
    }
}

/// Writes notices until `stop`.
pub(crate) async fn run(
    client: Client,
    mut notices: mpsc::Receiver<Notice>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut said = Said::default();
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(notice) = notice else {
            stop.cancelled().await;
            return Ok(());
        };
        if !said.is_new(&notice, clock::monotonic()) {
            continue;
        }
        let event = event(&notice, clock::now());
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<k8s::Event>::namespaced(client.clone(), &namespace);
        match tokio::time::timeout(WRITE_LIMIT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, message = notice.message, "an Event could not be written"),
            Err(_) => tracing::warn!(message = notice.message, "an Event could not be written in time"),
        }
    }
}

fn event(notice: &Notice, now: jiff::Timestamp) -> k8s::Event {
    let name = format!("{}.{:x}", notice.about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    event::warning(notice.about.clone(), name, "NotInMesh".to_owned(), notice.message.clone(), now)
}

/// What was said, and when.
#[derive(Debug, Default)]
struct Said(BTreeMap<String, Instant>);

impl Said {
    fn is_new(&mut self, notice: &Notice, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < SILENCE);
        let key = format!("{:?} {}", notice.about, notice.message);
        if self.0.contains_key(&key) || self.0.len() >= REMEMBERED_MAX {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(name: &str) -> Notice {
        let pod = k8s::Pod {
            metadata: k8s::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Default::default()
        };
        Notice { about: about(&pod, "shop"), message: "m".to_owned() }
    }

    #[test]
    fn the_same_is_said_once_in_a_while_and_a_flood_is_bounded() {
        let (mut said, now) = (Said::default(), clock::monotonic());
        assert!(said.is_new(&notice("a"), now));
        assert!(!said.is_new(&notice("a"), now));
        assert!(said.is_new(&notice("a"), now + SILENCE));
        let flood = (0..5000).filter(|number| said.is_new(&notice(&number.to_string()), now + SILENCE));
        assert_eq!(flood.count(), REMEMBERED_MAX - 1);
    }

    #[test]
    fn a_pod_without_a_name_is_spoken_of_as_what_makes_it() {
        let mut pod = k8s::Pod::default();
        let kind = |pod: &k8s::Pod| about(pod, "shop").kind.unwrap();
        assert_eq!(kind(&pod), "Namespace");
        assert_eq!(
            event(&Notice { about: about(&pod, "shop"), message: String::new() }, clock::now())
                .metadata
                .namespace
                .unwrap(),
            "default"
        );
        pod.metadata.name = Some("p".to_owned());
        assert_eq!(kind(&pod), "Pod");
        let owner = k8s::OwnerReference { kind: "ReplicaSet".to_owned(), controller: Some(true), ..Default::default() };
        pod.metadata.owner_references = Some(vec![owner]);
        assert_eq!(kind(&pod), "ReplicaSet");
    }
}
