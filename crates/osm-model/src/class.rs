//! Classes of proxies. All pods of one workload are one class and share one view.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{Identity, Protocol};

/// All that tells one proxy's configuration from another's. Two pods of one class get the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProxyClass {
    /// Who the pod is.
    pub identity: Identity,
    /// The ports on which services reach the pod.
    pub inbound: BTreeSet<InboundPort>,
}

/// One port on which services reach a pod. A port has one protocol, whatever the number of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct InboundPort {
    /// The pod's port: the service's target port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}
