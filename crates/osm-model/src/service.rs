//! Services of the mesh and the endpoints behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use crate::{Identity, Reach, ServiceName};

/// A service that pods of the mesh stand behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its place.
    pub name: ServiceName,
    /// The addresses that clients dial; empty for a headless service, whose endpoints are dialled themselves.
    pub addresses: Vec<IpAddr>,
    /// Its ports, by number.
    pub ports: BTreeMap<u16, ServicePort>,
    /// Who may answer for it: the identities of the pods that its selector selects. Empty: nobody.
    pub identities: BTreeSet<Identity>,
}

/// One port of a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The pods' ports behind it: one, or one for each pod when pods call different ports by one name.
    pub targets: BTreeSet<u16>,
    /// Where it is served: ready pods of the mesh.
    pub endpoints: BTreeSet<Endpoint>,
}

/// One pod's port behind a [`ServicePort`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The address that the pod's sidecar redirects.
    pub address: SocketAddr,
    /// Who answers there.
    pub identity: Identity,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1 or HTTP/2.
    Http,
    /// gRPC, which is HTTP/2.
    Grpc,
    /// Anything over TCP.
    Tcp,
    /// Anything over TCP in which the server speaks first.
    TcpServerFirst,
}

impl Service {
    /// What is left of the service for somebody with this reach: the ports that are open to them, the endpoints there,
    /// and who may answer. The service itself if that is all of it, nothing if it is nothing.
    pub(crate) fn reached_by(self: &Arc<Service>, reach: &BTreeMap<Identity, Reach>) -> Option<Arc<Service>> {
        let is_whole = |port: &ServicePort| {
            let is_open = |identity| {
                let reach = reach.get(identity)?;
                Some(port.is_open(reach) && port.targets.iter().all(|target| port.protocol.is_open(reach, *target)))
            };
            self.identities.iter().all(|identity| is_open(identity) == Some(true))
                && port.endpoints.iter().all(|endpoint| port.is_reached(endpoint, reach))
        };
        if !self.ports.is_empty() && !self.identities.is_empty() && self.ports.values().all(is_whole) {
            return Some(self.clone());
        }
        let mut identities = BTreeSet::new();
        let mut ports = BTreeMap::new();
        for (number, port) in &self.ports {
            let is_open = |identity: &&Identity| reach.get(*identity).is_some_and(|reach| port.is_open(reach));
            let open: BTreeSet<Identity> = self.identities.iter().filter(is_open).cloned().collect();
            if open.is_empty() {
                continue;
            }
            let mut port = port.clone();
            let protocol = port.protocol;
            port.targets.retain(|target| open.iter().any(|identity| protocol.is_open(&reach[identity], *target)));
            port.endpoints =
                port.endpoints.iter().filter(|endpoint| port.is_reached(endpoint, reach)).cloned().collect();
            ports.insert(*number, port);
            identities.extend(open);
        }
        let service = Service { name: self.name.clone(), addresses: self.addresses.clone(), ports, identities };
        (!service.ports.is_empty()).then(|| Arc::new(service))
    }
}

impl ServicePort {
    /// Whether some of it is open to somebody who has this reach of an identity behind it.
    pub fn is_open(&self, reach: &Reach) -> bool {
        match self.protocol.is_http() {
            true => reach.http,
            false => self.targets.iter().any(|target| reach.tcp.contains(*target)),
        }
    }

    fn is_reached(&self, endpoint: &Endpoint, reach: &BTreeMap<Identity, Reach>) -> bool {
        let reach = reach.get(&endpoint.identity);
        reach.is_some_and(|reach| self.protocol.is_open(reach, endpoint.address.port()))
    }
}

impl Protocol {
    /// Whether requests can be told apart, so that a connection manager takes the connection.
    pub fn is_http(self) -> bool {
        match self {
            Protocol::Http | Protocol::Grpc => true,
            Protocol::Tcp | Protocol::TcpServerFirst => false,
        }
    }

    /// Whether a pod's port on which this is spoken is open to somebody who has this reach of the pod's identity.
    fn is_open(self, reach: &Reach, port: u16) -> bool {
        if self.is_http() { reach.http } else { reach.tcp.contains(port) }
    }
}
