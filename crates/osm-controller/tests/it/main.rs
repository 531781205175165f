//! A whole controller in this process, on ports of its own, and pods that talk to it as sidecars do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod access;
mod ads;
mod certificate;
mod cluster;
mod health;
mod lab;
mod laws;
mod pipeline;
mod startup;
