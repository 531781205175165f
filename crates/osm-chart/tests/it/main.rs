//! The chart as a user gets it: with this crate and with Helm.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, which is what a test is for")]

mod chart;
mod crds;
mod permissions;
