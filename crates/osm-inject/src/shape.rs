//! The order in which a pod's containers start.

mod choice;

use std::fmt;

use osm_api::{INIT_CONTAINER, INJECTED, SIDECAR_CONTAINER, k8s};

use crate::containers::MERGED;
pub(crate) use choice::{Choice, choose};

/// How the sidecar stands among a pod's containers. In all of them redirection and hold are in place before any process
/// of the application runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `osm-init`, and the sidecar as the first container: quickest to start, for every version of Kubernetes.
    Init,
    /// `osm-init`, and the sidecar as an init container that keeps running: it is there for the pod's own init
    /// containers, and a pod that completes is not kept alive by it.
    Native,
    /// The same without `osm-init`: the sidecar installs the rules itself and gives up its rights. Quicker, but its
    /// container may do more than others.
    Merged,
}

impl Shape {
    /// Whether the sidecar is an init container that keeps running.
    pub fn is_native_sidecar(self) -> bool {
        match self {
            Shape::Init => false,
            Shape::Native | Shape::Merged => true,
        }
    }

    /// The shape of a pod that was injected before, and why it was chosen then.
    pub(crate) fn of_injected(pod: &k8s::Pod) -> Option<(Shape, String)> {
        let said = pod.metadata.annotations.as_ref()?.get(INJECTED)?;
        let why = said.split_once(": ").map_or(said.as_str(), |(_, why)| why).to_owned();
        let spec = pod.spec.as_ref()?;
        let inits = spec.init_containers.as_ref()?;
        let find = |containers: &[k8s::Container], name: &str| containers.iter().position(|c| c.name == name);
        let has_init = find(inits, INIT_CONTAINER).is_some();
        let native = find(inits, SIDECAR_CONTAINER).map(|at| &inits[at]);
        let is_merged = |sidecar: &k8s::Container| sidecar.args.iter().flatten().next().is_some_and(|a| a == MERGED);
        match native {
            Some(sidecar) if is_merged(sidecar) => Some((Shape::Merged, why)),
            Some(_) if has_init => Some((Shape::Native, why)),
            None if has_init && find(&spec.containers, SIDECAR_CONTAINER).is_some() => Some((Shape::Init, why)),
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Init => "init",
            Shape::Native => "native",
            Shape::Merged => "merged",
        })
    }
}
