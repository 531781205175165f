//! The order in which a pod's containers start.

use std::fmt;

use osm_api::{INIT_CONTAINER, INJECTED, Problem, Reason, SIDECAR_CONTAINER, STARTUP, k8s};

use crate::annotations::field;
use crate::{InjectPolicy, NativeSidecars};

/// How the sidecar stands among a pod's containers. In both, `osm-init` is the first init container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// The sidecar is the first container: quickest to start, for every version of Kubernetes.
    Init,
    /// The sidecar is an init container that keeps running: it is there for the pod's own init containers, and a pod
    /// that completes is not kept alive by it.
    Native,
}

impl Shape {
    /// The shape for a pod, and why: what it asks for, else what it needs.
    pub(crate) fn choose(
        subject: &str,
        spec: &k8s::PodSpec,
        wish: Option<Shape>,
        policy: &InjectPolicy,
    ) -> Result<(Shape, String), Vec<Problem>> {
        let needs_native = match spec.restart_policy.as_deref() {
            Some(restart @ ("Never" | "OnFailure")) => Some(format!("restartPolicy {restart}")),
            _ if spec.init_containers.as_ref().is_some_and(|inits| !inits.is_empty()) => {
                Some("init containers of its own".to_owned())
            }
            _ => None,
        };
        let (need, missing) = match (wish, &policy.native_sidecars) {
            (Some(Shape::Native), NativeSidecars::Missing { why }) => {
                let message = format!("there are no native sidecars: {why}");
                let problem = Problem::new(subject, Reason::Unsupported, message).with_field(field(STARTUP));
                return Err(vec![problem.with_hint("write init, or leave it out; or keep the pod to newer nodes")]);
            }
            (Some(shape), _) => return Ok((shape, format!("the annotation {STARTUP} asks for it"))),
            (None, NativeSidecars::Available) => (needs_native, None),
            (None, NativeSidecars::Missing { why }) => (needs_native, Some(why)),
        };
        Ok(match (need, missing) {
            (Some(need), None) => (Shape::Native, need),
            (Some(need), Some(why)) => (Shape::Init, format!("{need}, but there are no native sidecars: {why}")),
            (None, _) => (Shape::Init, "restartPolicy Always, no init containers of its own".to_owned()),
        })
    }

    /// The shape of a pod that was injected before, and why it was chosen then.
    pub(crate) fn of_injected(pod: &k8s::Pod) -> Option<(Shape, String)> {
        let said = pod.metadata.annotations.as_ref()?.get(INJECTED)?;
        let why = said.split_once(": ").map_or(said.as_str(), |(_, why)| why).to_owned();
        let spec = pod.spec.as_ref()?;
        let inits = spec.init_containers.as_ref()?;
        let has = |containers: &[k8s::Container], name: &str| containers.iter().any(|c| c.name == name);
        if !has(inits, INIT_CONTAINER) {
            None
        } else if has(inits, SIDECAR_CONTAINER) {
            Some((Shape::Native, why))
        } else if has(&spec.containers, SIDECAR_CONTAINER) {
            Some((Shape::Init, why))
        } else {
            None
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Init => "init",
            Shape::Native => "native",
        })
    }
}
