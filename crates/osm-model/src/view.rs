//! The view: all that one class of proxies may know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::{GrantsTo, ProxyClass, Service, Settings};

/// All that one class of proxies may know, and so all that its configuration is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyView {
    /// What holds for everybody.
    pub settings: Settings,
    /// Who the proxies are, and the ports on which they are reached.
    pub class: ProxyClass,
    /// The services that they may reach, by name, each with what they may reach of it.
    pub outbound: Vec<Arc<Service>>,
    /// Every port on which some service of the mesh speaks HTTP, so that a request that may not be sent can be answered
    /// instead of cut off. Nothing else is known of services that may not be reached.
    pub http_ports: BTreeSet<u16>,
    /// With egress: the addresses, by port, of services of the mesh that they may not reach. What is sent there would
    /// otherwise pass for a destination outside the mesh, and leave the pod in plain text.
    pub closed: BTreeMap<u16, BTreeSet<IpAddr>>,
    /// Who may reach them.
    pub admitted: Admitted,
}

/// Who may reach a class of proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admitted {
    /// Every workload of the mesh, with everything.
    Everybody,
    /// Those that a policy names, with what it grants them.
    Granted(Arc<GrantsTo>),
}
