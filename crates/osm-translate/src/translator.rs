//! From a view to all resources of its class.

mod inbound;
mod outbound;

use std::collections::BTreeSet;
use std::sync::Arc;

use osm_model::{Access, Admitted, Identity, InboundPort, ProxyClass, ProxyView, Settings};
use osm_xds::{Resource, ResourceType, Resources};

use crate::memo::Memo;
use crate::route::{self, PortHosts, Unrouted};
use inbound::InboundSide;
use outbound::{Outbound, OutboundSide, ServiceResources, ServiceSlot};

/// Results that are kept beside those of the view at hand, for other views: a mesh of some thousand workloads.
const SPARE_SLOTS: usize = 4096;

/// Translates views, and remembers what it made for parts that stayed the same: one changed service among thousands
/// costs one service, for all classes together.
#[derive(Debug, Default)]
pub struct Translator {
    services: Memo<ServiceSlot, outbound::ServiceArgument, Arc<ServiceResources>>,
    outbound: Memo<Owner, Outbound, Arc<OutboundSide>>,
    ports: Memo<(Owner, u16), Vec<Arc<route::Host>>, Arc<PortHosts>>,
    routes: Memo<(Owner, String, u16), RoutesArgument, Arc<Resource>>,
    inbound: Memo<ProxyClass, (ProxyClass, Admitted, Settings), Arc<InboundSide>>,
    clusters: Memo<(Owner, BTreeSet<InboundPort>), ClustersArgument, Resources>,
}

/// Whose outbound side it is: nobody's in particular in permissive mode, else an identity's.
type Owner = Option<Identity>;

/// The clients' namespace if it has names of its own on the port, the port, and what becomes of other hosts.
type RoutesArgument = (String, Arc<PortHosts>, Unrouted);

/// Clusters of the outbound and of the inbound side.
type ClustersArgument = (Vec<Arc<Resource>>, Vec<Arc<Resource>>);

/// What a class of proxies must be told to do what its view says. Equal views give equal bytes.
pub fn translate(view: &ProxyView) -> Resources {
    Arc::unwrap_or_clone(Translator::default().translate(view))
}

impl Translator {
    /// As [`translate`], without doing again what was done for an earlier view.
    pub fn translate(&mut self, view: &ProxyView) -> Arc<Resources> {
        let owner = match view.settings.access {
            Access::Permissive => None,
            Access::Granted => Some(view.class.identity.clone()),
        };
        let outbound = self.outbound(&owner, view);
        let argument = (view.class.clone(), view.admitted.clone(), view.settings.clone());
        let inbound = self.inbound.get(view.class.clone(), argument, |(class, admitted, settings), _| {
            Arc::new(InboundSide::new(class, admitted, settings))
        });
        let slot = (owner.clone(), view.class.inbound.clone());
        let argument = (outbound.clusters.clone(), inbound.clusters.clone());
        let mut resources = self.clusters.get(slot, argument, |(outbound, inbound), _| {
            outbound.iter().chain(inbound).map(|cluster| (ResourceType::Cluster, cluster.clone())).collect()
        });
        resources.take_type_from(ResourceType::Endpoint, &outbound.endpoints);
        for listener in [&outbound.listener, &inbound.listener] {
            resources.insert(ResourceType::Listener, listener.clone());
        }
        for routes in self.outbound_routes(&owner, &outbound, view).into_iter().chain(inbound.routes.iter().cloned()) {
            resources.insert(ResourceType::Route, routes);
        }
        self.forget_what_is_old(view);
        Arc::new(resources)
    }

    fn outbound_routes(&mut self, owner: &Owner, outbound: &OutboundSide, view: &ProxyView) -> Vec<Arc<Resource>> {
        let mut made = Vec::with_capacity(outbound.ports.len());
        for (number, port) in &outbound.ports {
            // Clients that have no names of their own on a port share its routes.
            let namespace = &view.class.identity.namespace;
            let namespace = if port.is_of_namespace(namespace) { namespace.clone() } else { String::new() };
            let slot = (owner.clone(), namespace.clone(), *number);
            let argument = (namespace, port.clone(), outbound.unrouted);
            let make =
                |(namespace, port, unrouted): &RoutesArgument| Arc::new(route::outbound(port, namespace, *unrouted));
            made.push(self.routes.get(slot, argument, |argument, _| make(argument)));
        }
        made
    }

    fn forget_what_is_old(&mut self, view: &ProxyView) {
        let services = view.outbound.len() + SPARE_SLOTS;
        self.services.trim(services);
        self.outbound.trim(SPARE_SLOTS);
        self.ports.trim(services);
        self.routes.trim(services);
        self.inbound.trim(SPARE_SLOTS);
        self.clusters.trim(SPARE_SLOTS);
    }
}

/// The same value as before where it came out equal, so that comparing is comparing pointers from there on.
fn same_if_equal<T: PartialEq>(new: T, before: Option<&Arc<T>>) -> Arc<T> {
    match before {
        Some(before) if **before == new => before.clone(),
        Some(_) | None => Arc::new(new),
    }
}
