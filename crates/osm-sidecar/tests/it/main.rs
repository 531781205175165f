//! The whole agent with a real Envoy, a controller that the tests direct, and an application: no root needed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod bootstrap;
mod controller;
mod farewell;
mod faults;
mod gate;
mod kernel;
mod lab;
mod last_good;
mod park;
mod process;
mod resources;
mod sidecar;
