//! Delta ADS over gRPC: the server that runs sessions, and the client that keeps a copy.
//!
//! [`service`] is what a controller (over TLS) and an agent (over a Unix socket, for its Envoy) mount on their servers;
//! they differ in their [`Host`]. [`client::run`] is the agent's way to the controller. The protocol itself is in
//! `osm-xds`; here are only streams, limits and the wire's encoding.

pub mod client;
mod notice;
mod server;
mod wire;

pub use notice::Notice;
pub use server::{Host, Limits, Node, Report, SessionEvent, Subscription, service};
