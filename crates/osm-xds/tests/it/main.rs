//! The laws of the session and the replica, held against a model of Envoy, and the cases that pin their details.

mod cases;
mod laws;
mod model;
mod server;
mod snapshot;
