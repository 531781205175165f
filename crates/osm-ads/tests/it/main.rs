//! The service and the client over real streams: with each other, with scripted peers, and with the real Envoy.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod client;
mod envoy;
mod envoy_lab;
mod envoy_resources;
mod host;
mod scripted;
mod server;
