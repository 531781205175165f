//! The Mesh: what every object of the World means together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
    /// The class of each pod with a sidecar.
    pub proxies: BTreeMap<PodName, ProxyClass>,
    /// What policies grant. In permissive mode it counts for nothing.
    pub grants: Grants,
    /// Every port on which one of the services speaks HTTP.
    http_ports: BTreeSet<u16>,
    /// The services that each identity may answer for, so that a view need not look at all of them.
    #[serde(skip)]
    served_by: BTreeMap<Identity, BTreeSet<ServiceName>>,
}

impl Mesh {
    /// From its parts. A service may be replaced by an equal one afterwards, and by no other.
    pub fn new(
        settings: Settings,
        services: BTreeMap<ServiceName, Arc<Service>>,
        proxies: BTreeMap<PodName, ProxyClass>,
        grants: Grants,
    ) -> Mesh {
        let ports = services.values().flat_map(|service| &service.ports);
        let http_ports = ports.filter(|(_, port)| port.protocol.is_http()).map(|(number, _)| *number).collect();
        let mut served_by: BTreeMap<Identity, BTreeSet<ServiceName>> = BTreeMap::new();
        for (name, service) in &services {
            for identity in &service.identities {
                served_by.entry(identity.clone()).or_default().insert(name.clone());
            }
        }
        Mesh { settings, services, proxies, grants, http_ports, served_by }
    }

    /// All that one class of proxies may know.
    ///
    /// Laws: a view does not change by what its class cannot reach, but for the numbers of HTTP ports and, with egress,
    /// the addresses of services; in permissive mode it does not change by policies.
    pub fn view(&self, class: &ProxyClass) -> ProxyView {
        let (outbound, admitted) = match self.settings.access {
            Access::Permissive => (self.services.values().cloned().collect(), Admitted::Everybody),
            Access::Granted => {
                (self.granted_services(&class.identity), Admitted::Granted(self.grants.to(&class.identity)))
            }
        };
        let (settings, http_ports) = (self.settings.clone(), self.http_ports.clone());
        let closed = match (settings.access, settings.egress) {
            (Access::Granted, true) => self.closed(&outbound),
            // All services are reached, or nothing passes for a destination outside the mesh.
            (Access::Permissive, _) | (Access::Granted, false) => BTreeMap::new(),
        };
        ProxyView { settings, class: class.clone(), outbound, http_ports, closed, admitted }
    }

    /// The classes that some pod is of.
    pub fn classes(&self) -> BTreeSet<&ProxyClass> {
        self.proxies.values().collect()
    }

    /// Where the services are that are not among the reached ones.
    fn closed(&self, reached: &[Arc<Service>]) -> BTreeMap<u16, BTreeSet<IpAddr>> {
        let places = |service: &Service| -> Vec<(u16, IpAddr)> {
            let ports = service.ports.keys();
            ports.flat_map(|port| service.addresses.iter().map(|address| (*port, *address))).collect()
        };
        let open: BTreeSet<(u16, IpAddr)> = reached.iter().flat_map(|service| places(service)).collect();
        let mut closed: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for (port, address) in self.services.values().flat_map(|service| places(service)) {
            if !open.contains(&(port, address)) {
                closed.entry(port).or_default().insert(address);
            }
        }
        closed
    }

    fn granted_services(&self, source: &Identity) -> Vec<Arc<Service>> {
        let Some(reach) = self.grants.from(source) else { return Vec::new() };
        let names: BTreeSet<&ServiceName> = reach.keys().filter_map(|to| self.served_by.get(to)).flatten().collect();
        names.into_iter().filter_map(|name| self.services.get(name)?.reached_by(reach)).collect()
    }
}
