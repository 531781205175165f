//! ProxyView in, Envoy resources out: Envoy types begin here.
//!
//! One file for each Envoy resource. Nothing here names a pod, an identity's key or a time: equal views give equal
//! bytes, and one service's resources are encoded once for all who may reach it.

mod translator;

mod cluster;
mod endpoint;
mod listener;
mod route;

mod access_log;
mod http;
mod json;
mod memo;
mod names;
mod parts;
mod rbac;
mod retry;
mod tls;

pub use endpoint::addresses as endpoint_addresses;
pub use json::{JsonError, resource_to_json, to_json};
pub use names::{INBOUND_LISTENER, OUTBOUND_LISTENER, ROOT_CERT, SERVICE_CERT, service_cluster};
pub use translator::{Translator, translate};
