//! Services of the mesh and the endpoints behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::{Identity, ServiceName};

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
    /// Where it is served: ready pods of the mesh.
    pub endpoints: BTreeSet<Endpoint>,
}

/// One pod's port behind a [`ServicePort`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The address that the pod's sidecar redirects.
    pub address: SocketAddr,
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

impl Protocol {
    /// Whether requests can be told apart, so that a connection manager takes the connection.
    pub fn is_http(self) -> bool {
        match self {
            Protocol::Http | Protocol::Grpc => true,
            Protocol::Tcp | Protocol::TcpServerFirst => false,
        }
    }
}
