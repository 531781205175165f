//! The laws of the session and the replica, held against a model of Envoy, and the cases that pin their details.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod cases;
mod laws;
mod model;
mod server;
mod snapshot;
