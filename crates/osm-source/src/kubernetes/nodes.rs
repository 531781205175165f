//! The nodes, for those who must know the oldest kubelet. No part of the World: the mesh does not depend on them.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use osm_api::k8s;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;

/// Keeps in `told` every node with its labels and what its kubelet says of itself, in order of names; none before the
/// first list. Until `stop`, or until nobody listens.
pub async fn nodes(
    client: Client,
    told: watch::Sender<Option<Vec<k8s::Node>>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = follow(Api::all(client), &told) => Ok(()),
        () = told.closed() => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

async fn follow(api: Api<k8s::Node>, told: &watch::Sender<Option<Vec<k8s::Node>>>) {
    let mut watch = Watch::new(api);
    let (mut known, mut list) = (BTreeMap::new(), None);
    loop {
        match watch.next().await {
            Ok(Event::Init) => list = Some(BTreeMap::new()),
            Ok(Event::InitApply(node)) => drop(list.get_or_insert_default().insert(node.name_any(), strip(node))),
            Ok(Event::InitDone) => known = list.take().unwrap_or_default(),
            Ok(Event::Apply(node)) => drop(known.insert(node.name_any(), strip(node))),
            Ok(Event::Delete(node)) => drop(known.remove(&node.name_any())),
            Err(failed) => {
                if failed.failures == 2 {
                    tracing::warn!(error = %failed.error, "nodes cannot be watched; those that were known still count");
                }
                continue;
            }
        }
        if list.is_some() {
            continue;
        }
        let now: Vec<k8s::Node> = known.values().cloned().collect();
        told.send_if_modified(|told| {
            let is_news = told.as_ref() != Some(&now);
            if is_news {
                *told = Some(now);
            }
            is_news
        });
    }
}

/// What changes with every sign of life of a kubelet is of no use, and the list of images is long.
fn strip(node: k8s::Node) -> k8s::Node {
    let node_info = node.status.and_then(|status| status.node_info);
    let k8s::ObjectMeta { name, labels, .. } = node.metadata;
    k8s::Node {
        metadata: k8s::ObjectMeta { name, labels, ..Default::default() },
        status: Some(k8s::NodeStatus { node_info, ..Default::default() }),
        ..Default::default()
    }
}
