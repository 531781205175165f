//! The binary as images and manifests use it, and the manifests of the demo.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod manifests;
mod process;
