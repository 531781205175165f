//! From a view to all resources of its class.

use std::sync::Arc;

use osm_model::{ProxyView, Service, ServiceName, Settings};
use osm_xds::{Resource, ResourceType, Resources};

use crate::memo::Memo;
use crate::{cluster, endpoint, listener, route};

/// Slots that are kept beside those of the view at hand, for other views.
const SPARE_SLOTS: usize = 4096;

/// Translates views, and remembers what it made for parts that stayed the same: one changed service among thousands
/// costs one service.
#[derive(Debug, Default)]
pub struct Translator {
    services: Memo<ServiceName, (Arc<Service>, Settings), ServiceResources>,
    outbound: Memo<(), Outbound, Resources>,
    routes: Memo<String, (String, Outbound), Vec<Arc<Resource>>>,
}

/// What the outbound side is made of.
#[derive(Clone, Debug, PartialEq)]
struct Outbound {
    settings: Settings,
    services: Vec<Arc<Service>>,
}

/// The resources of one service that do not depend on who asks.
type ServiceResources = Arc<[(ResourceType, Arc<Resource>)]>;

/// What a class of proxies must be told to do what its view says. Equal views give equal bytes.
pub fn translate(view: &ProxyView) -> Resources {
    Arc::unwrap_or_clone(Translator::default().translate(view))
}

impl Translator {
    /// As [`translate`], without doing again what was done for an earlier view.
    pub fn translate(&mut self, view: &ProxyView) -> Arc<Resources> {
        let outbound = Outbound { settings: view.settings.clone(), services: view.outbound.clone() };
        let mut resources = self.outbound(&outbound);
        let namespace = view.class.identity.namespace.clone();
        let routes = self.routes.get(namespace.clone(), (namespace, outbound), |(namespace, outbound)| {
            route::outbound(namespace, &outbound.services, &outbound.settings).into_iter().map(Arc::new).collect()
        });
        for resource in routes {
            resources.insert(ResourceType::Route, resource);
        }
        for inbound in &view.class.inbound {
            resources.insert(ResourceType::Cluster, cluster::local(inbound));
            if inbound.protocol.is_http() {
                resources.insert(ResourceType::Route, route::inbound(inbound.port, view.settings.access));
            }
        }
        resources.insert(ResourceType::Listener, listener::inbound(&view.class, &view.settings));
        self.services.end_round(view.outbound.len() + SPARE_SLOTS);
        self.routes.end_round(SPARE_SLOTS);
        Arc::new(resources)
    }

    /// What does not depend on the class: clusters, endpoints and the outbound listener.
    fn outbound(&mut self, outbound: &Outbound) -> Resources {
        let services = &mut self.services;
        self.outbound.get((), outbound.clone(), |outbound| {
            let mut resources = Resources::default();
            for service in &outbound.services {
                let argument = (service.clone(), outbound.settings.clone());
                let made =
                    services.get(service.name.clone(), argument, |(service, settings)| of_service(service, settings));
                for (ty, resource) in made.iter() {
                    resources.insert(*ty, resource.clone());
                }
            }
            resources.insert(ResourceType::Cluster, cluster::blackhole());
            if outbound.settings.egress {
                resources.insert(ResourceType::Cluster, cluster::passthrough());
            }
            resources.insert(ResourceType::Listener, listener::outbound(&outbound.services, &outbound.settings));
            resources
        })
    }
}

fn of_service(service: &Service, settings: &Settings) -> ServiceResources {
    let mut resources = Vec::new();
    for number in service.ports.keys() {
        resources.push((ResourceType::Cluster, Arc::new(cluster::of_service(service, *number, settings))));
        if let Some(endpoints) = endpoint::of_service(service, *number) {
            resources.push((ResourceType::Endpoint, Arc::new(endpoints)));
        }
    }
    resources.into()
}
