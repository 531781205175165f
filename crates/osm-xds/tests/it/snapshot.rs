//! Small meshes whose bodies are text, so that the model can read what a resource refers to.

use std::{fmt, sync::Arc};

use osm_xds::{Resource, ResourceType, Resources};
use proptest::prelude::*;

/// What `translate` would make: closed, that is, everything that is referred to exists.
#[derive(Clone)]
pub(crate) struct Snapshot {
    /// Version and whether Envoy rejects it, per cluster that exists.
    clusters: [Option<(u8, bool)>; 4],
    /// Version of each cluster's load assignment.
    assignments: [u8; 4],
    routes: [(u8, bool, [bool; 4]); 3],
    listeners: [Option<(u8, bool, [bool; 3])>; 2],
}

/// The word in a body that makes the model reject it.
pub(crate) const BAD: &str = "bad";

impl Snapshot {
    pub(crate) fn resources(&self) -> Arc<Resources> {
        let mut resources = Resources::default();
        for (i, cluster) in self.clusters.iter().enumerate() {
            let Some((version, is_bad)) = cluster else { continue };
            resources.insert(ResourceType::Cluster, resource("c", i, *version, *is_bad, ""));
            resources.insert(ResourceType::Endpoint, resource("c", i, self.assignments[i], false, ""));
        }
        for (i, listener) in self.listeners.iter().enumerate() {
            let Some((version, is_bad, routes)) = listener else { continue };
            let used: Vec<usize> = (0..routes.len()).filter(|r| routes[*r]).collect();
            resources.insert(ResourceType::Listener, resource("l", i, *version, *is_bad, &names("r", &used)));
            for r in used {
                let (version, is_bad, clusters) = self.routes[r];
                let used: Vec<usize> = (0..4).filter(|c| clusters[*c] && self.clusters[*c].is_some()).collect();
                resources.insert(ResourceType::Route, resource("r", r, version, is_bad, &names("c", &used)));
            }
        }
        Arc::new(resources)
    }

    /// The same with nothing that Envoy rejects.
    pub(crate) fn without_bad(mut self) -> Self {
        self.clusters.iter_mut().flatten().for_each(|cluster| cluster.1 = false);
        self.routes.iter_mut().for_each(|route| route.1 = false);
        self.listeners.iter_mut().flatten().for_each(|listener| listener.1 = false);
        self
    }
}

// Failures print whole histories: only what Envoy would see of each.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources = self.resources();
        f.debug_list().entries(resources.iter().map(|(ty, r)| format!("{ty} {}: {}", r.name, text(r)))).finish()
    }
}

fn names(prefix: &str, used: &[usize]) -> String {
    used.iter().map(|i| format!(" {prefix}{i}")).collect()
}

fn resource(prefix: &str, index: usize, version: u8, is_bad: bool, refers_to: &str) -> Resource {
    let quality = if is_bad { BAD } else { "good" };
    Resource::new(format!("{prefix}{index}"), format!("{version} {quality}{refers_to}").into_bytes())
}

/// Whether the model rejects it.
pub(crate) fn is_bad(resource: &Resource) -> bool {
    text(resource).contains(BAD)
}

/// The names that a resource refers to.
pub(crate) fn references(resource: &Resource) -> Vec<String> {
    text(resource).split(' ').skip(2).map(str::to_owned).collect()
}

fn text(resource: &Resource) -> &str {
    std::str::from_utf8(&resource.body).unwrap()
}

pub(crate) fn snapshots() -> impl Strategy<Value = Snapshot> {
    let bad = || prop::bool::weighted(0.15);
    (
        prop::array::uniform4(prop::option::weighted(0.7, (0..3_u8, bad()))),
        prop::array::uniform4(0..3_u8),
        prop::array::uniform3((0..3_u8, bad(), any::<[bool; 4]>())),
        prop::array::uniform2(prop::option::weighted(0.8, (0..3_u8, bad(), any::<[bool; 3]>()))),
    )
        .prop_map(|(clusters, assignments, routes, listeners)| Snapshot {
            clusters,
            assignments,
            routes,
            listeners,
        })
}
