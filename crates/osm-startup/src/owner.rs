//! Who must act.

use std::fmt;

use serde::{Serialize, Serializer};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The control plane.
    Controller,
    /// What lies between the pod and the control plane.
    Network,
    /// Whoever resolves names for the pod.
    Dns,
    /// The pod's token, or the service account behind it.
    Token,
    /// Envoy.
    Envoy,
    /// The agent and its container.
    Sidecar,
    /// The node: its clock, its kernel, its disk, its container runtime.
    Node,
    /// The application in the pod.
    Application,
    /// Whoever wrote the pod down.
    Pod,
    /// Another webhook of the cluster.
    Webhook,
    /// Whoever decides what is in the mesh.
    Namespace,
    /// The service that the pod waits for.
    Upstream,
    /// The proxies of those who send to this pod.
    Peers,
}

impl Owner {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Controller => "osm-controller",
            Owner::Network => "network",
            Owner::Dns => "dns",
            Owner::Token => "service-account-token",
            Owner::Envoy => "envoy",
            Owner::Sidecar => "sidecar",
            Owner::Node => "node",
            Owner::Application => "application",
            Owner::Pod => "pod",
            Owner::Webhook => "another-webhook",
            Owner::Namespace => "namespace",
            Owner::Upstream => "upstream",
            Owner::Peers => "peers",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
