//! Encoded resources and the delta xDS session as a state machine without input or output.
//!
//! [`Resources`] is all that one class of proxies is told. A [`Session`] is the server's side of one stream: it turns
//! requests and new resources into responses, in an order that never breaks traffic. A [`Replica`] is the client's side
//! that keeps a copy. Nothing here parses an Envoy message, waits or does I/O, so all of it is tested as arithmetic.

mod mention;
mod message;
mod replica;
mod resources;
mod session;
mod status;

pub use message::{Request, Response};
pub use replica::Replica;
pub use resources::{Resource, ResourceType, Resources};
pub use session::Session;
pub use status::{Rejection, SessionStatus, TypeStatus};
