//! What depends on the class: its own ports, and who is admitted to them.

use std::sync::Arc;

use osm_model::{Admitted, ProxyClass, Settings};
use osm_xds::Resource;

use crate::{cluster, listener, route};

/// The inbound side of a class.
#[derive(Debug)]
pub(crate) struct InboundSide {
    pub(crate) clusters: Vec<Arc<Resource>>,
    pub(crate) routes: Vec<Arc<Resource>>,
    pub(crate) listener: Arc<Resource>,
}

impl InboundSide {
    pub(crate) fn new(class: &ProxyClass, admitted: &Admitted, settings: &Settings) -> InboundSide {
        let http = class.inbound.iter().filter(|inbound| inbound.protocol.is_http());
        let routes = http.map(|inbound| Arc::new(route::inbound(inbound.port, admitted, &settings.trust_domain)));
        InboundSide {
            clusters: class.inbound.iter().map(|inbound| Arc::new(cluster::local(inbound))).collect(),
            routes: routes.collect(),
            listener: Arc::new(listener::inbound(class, admitted, settings)),
        }
    }
}
