//! The Mesh: what every object of the World means together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::{Access, Admitted, Grants, Identity, PodName, ProxyClass, ProxyView, Service, ServiceName, Settings};

/// The meaning of a World. Made by `osm_resolve::resolve`, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mesh {
    /// What holds for everybody.
    pub settings: Settings,
    /// Every service of the mesh. Shared, so that a view is a list of pointers.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Every port on which one of the services speaks HTTP.
    pub http_ports: BTreeSet<u16>,
    /// The class of each pod with a sidecar.
    pub proxies: BTreeMap<PodName, ProxyClass>,
    /// What policies grant. In permissive mode it counts for nothing.
    pub grants: Grants,
}

impl Mesh {
    /// All that one class of proxies may know.
    ///
    /// Laws: a view does not change by what its class cannot reach, but for the numbers of HTTP ports; in permissive
    /// mode it does not change by policies.
    pub fn view(&self, class: &ProxyClass) -> ProxyView {
        let (outbound, admitted) = match self.settings.access {
            Access::Permissive => (self.services.values().cloned().collect(), Admitted::Everybody),
            Access::Granted => {
                (self.granted_services(&class.identity), Admitted::Granted(self.grants.to(&class.identity)))
            }
        };
        let settings = self.settings.clone();
        ProxyView { settings, class: class.clone(), outbound, http_ports: self.http_ports.clone(), admitted }
    }

    /// The classes that some pod is of.
    pub fn classes(&self) -> BTreeSet<&ProxyClass> {
        self.proxies.values().collect()
    }

    fn granted_services(&self, source: &Identity) -> Vec<Arc<Service>> {
        let Some(reach) = self.grants.from(source) else { return Vec::new() };
        self.services.values().filter_map(|service| service.reached_by(reach)).collect()
    }
}
