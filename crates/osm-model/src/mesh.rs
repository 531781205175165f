//! The Mesh: what every object of the World means together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::{Access, PodName, ProxyClass, ProxyView, Service, ServiceName, Settings};

/// The meaning of a World. Made by `osm_resolve::resolve`, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mesh {
    /// What holds for everybody.
    pub settings: Settings,
    /// Every service of the mesh. Shared, so that a view is a list of pointers.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// The class of each pod with a sidecar.
    pub proxies: BTreeMap<PodName, ProxyClass>,
}

impl Mesh {
    /// All that one class of proxies may know.
    ///
    /// Law: a view does not change by what its class cannot reach.
    pub fn view(&self, class: &ProxyClass) -> ProxyView {
        let outbound = match self.settings.access {
            Access::Permissive => self.services.values().cloned().collect(),
            // Policies that grant something are resolved with the SMI kinds; until one does, nothing is granted.
            Access::Granted => Vec::new(),
        };
        ProxyView { settings: self.settings.clone(), class: class.clone(), outbound }
    }

    /// The classes that some pod is of.
    pub fn classes(&self) -> BTreeSet<&ProxyClass> {
        self.proxies.values().collect()
    }
}
