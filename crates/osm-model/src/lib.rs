//! What the objects mean: the [`Mesh`], and the [`ProxyView`] of one class of proxies.
//!
//! No Kubernetes type and no Envoy type is known here. Everything is plain data: owned, comparable, in a fixed order.

mod class;
mod grants;
mod identity;
mod mesh;
mod service;
mod settings;
mod view;

pub use class::{InboundPort, ProxyClass};
pub use grants::{Grant, Grants, GrantsTo, HttpMatch, Pattern, PolicyName, Reach, TcpPorts};
pub use identity::{Identity, PodName, ServiceName, TrustDomain};
pub use mesh::Mesh;
pub use service::{Endpoint, Protocol, Service, ServicePort};
pub use settings::{Access, Settings, TlsSettings, TlsVersion};
pub use view::{Admitted, ProxyView};
