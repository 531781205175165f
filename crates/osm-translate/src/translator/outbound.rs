//! What does not depend on the class, but on what may be reached: clusters, endpoints, the outbound listener, and the
//! hosts of routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use osm_model::{Access, Identity, ProxyView, Service, ServiceName, Settings};
use osm_xds::{Resource, ResourceType, Resources};

use super::{Owner, Translator, same_if_equal};
use crate::route::{Host, PortHosts, Unrouted};
use crate::{cluster, endpoint, listener};

/// What the outbound side is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbound {
    settings: Settings,
    services: Vec<Arc<Service>>,
    http_ports: BTreeSet<u16>,
    closed: BTreeMap<u16, BTreeSet<IpAddr>>,
}

/// The outbound side.
#[derive(Debug)]
pub(crate) struct OutboundSide {
    /// Of services, and those that are always the same.
    pub(crate) clusters: Vec<Arc<Resource>>,
    /// Load assignments alone.
    pub(crate) endpoints: Resources,
    pub(crate) listener: Arc<Resource>,
    /// The hosts of each HTTP port.
    pub(crate) ports: BTreeMap<u16, Arc<PortHosts>>,
    pub(crate) unrouted: Unrouted,
}

/// Where to look for a service's resources. In SMI mode one service may have several faces, for clients that may reach
/// some of its pods or ports only.
pub(crate) type ServiceSlot = (ServiceName, BTreeSet<Identity>, Vec<u16>);

/// What a service's resources are made of.
pub(crate) type ServiceArgument = (Arc<Service>, Arc<Settings>);

/// The resources of one service that do not depend on who asks.
#[derive(Debug, PartialEq)]
pub(crate) struct ServiceResources {
    clusters: Vec<Arc<Resource>>,
    endpoints: Vec<Arc<Resource>>,
    hosts: BTreeMap<u16, Arc<Host>>,
}

impl Translator {
    /// The outbound side of a view.
    pub(super) fn outbound(&mut self, owner: &Owner, view: &ProxyView) -> Arc<OutboundSide> {
        let argument = Outbound {
            settings: view.settings.clone(),
            services: view.outbound.clone(),
            http_ports: view.http_ports.clone(),
            closed: view.closed.clone(),
        };
        let Translator { outbound, services, ports, .. } = self;
        outbound.get(owner.clone(), argument, |outbound, before| {
            // No service's resources depend on the mode: they outlive its change.
            let plain = Settings { access: Access::Permissive, egress: false, ..outbound.settings.clone() };
            let plain = Arc::new(plain);
            let made = outbound.services.iter().map(|service| {
                let slot = (service.name.clone(), service.identities.clone(), service.ports.keys().copied().collect());
                let make = |argument: &ServiceArgument, before: Option<&Arc<ServiceResources>>| {
                    Arc::new(ServiceResources::new(&argument.0, &argument.1, before))
                };
                services.get(slot, (service.clone(), plain.clone()), make)
            });
            let made: Vec<Arc<ServiceResources>> = made.collect();
            let mut by_port: BTreeMap<u16, Vec<Arc<Host>>> =
                outbound.http_ports.iter().map(|port| (*port, Vec::new())).collect();
            for (port, host) in made.iter().flat_map(|made| &made.hosts) {
                by_port.entry(*port).or_default().push(host.clone());
            }
            let hosts = by_port.into_iter().map(|(port, hosts)| {
                let made = ports.get((owner.clone(), port), hosts, |hosts, before| {
                    same_if_equal(PortHosts::new(port, hosts), before)
                });
                (port, made)
            });
            Arc::new(OutboundSide::new(outbound, &made, hosts.collect(), before))
        })
    }
}

impl OutboundSide {
    fn new(
        outbound: &Outbound,
        services: &[Arc<ServiceResources>],
        ports: BTreeMap<u16, Arc<PortHosts>>,
        before: Option<&Arc<OutboundSide>>,
    ) -> OutboundSide {
        let settings = &outbound.settings;
        let mut clusters: Vec<Arc<Resource>> = services.iter().flat_map(|made| made.clusters.iter().cloned()).collect();
        clusters.push(Arc::new(cluster::blackhole()));
        if settings.egress {
            clusters.push(Arc::new(cluster::passthrough()));
        }
        let endpoints = services.iter().flat_map(|made| made.endpoints.iter());
        let open = listener::Open { services: &outbound.services, http_ports: ports.keys().copied().collect() };
        OutboundSide {
            clusters,
            endpoints: endpoints.map(|endpoints| (ResourceType::Endpoint, endpoints.clone())).collect(),
            listener: same_if_equal(
                listener::outbound(&open, &outbound.closed, settings),
                before.map(|before| &before.listener),
            ),
            ports,
            unrouted: match (settings.egress, settings.access) {
                (true, _) => Unrouted::PassedThrough,
                (false, Access::Permissive) => Unrouted::NotFound,
                (false, Access::Granted) => Unrouted::Forbidden,
            },
        }
    }
}

impl ServiceResources {
    fn new(service: &Service, settings: &Settings, before: Option<&Arc<ServiceResources>>) -> ServiceResources {
        let known = |made: Resource, before: Option<&Vec<Arc<Resource>>>| {
            let before = before.and_then(|before| before.iter().find(|before| before.name == made.name));
            same_if_equal(made, before)
        };
        let mut resources = ServiceResources { clusters: Vec::new(), endpoints: Vec::new(), hosts: BTreeMap::new() };
        for (number, port) in &service.ports {
            let made = cluster::of_service(service, *number, settings);
            resources.clusters.push(known(made, before.map(|before| &before.clusters)));
            if let Some(made) = endpoint::of_service(service, *number) {
                resources.endpoints.push(known(made, before.map(|before| &before.endpoints)));
            }
            if port.protocol.is_http() {
                let known = before.and_then(|before| before.hosts.get(number));
                resources.hosts.insert(*number, same_if_equal(Host::new(service, *number, settings), known));
            }
        }
        resources
    }
}
