//! The chart as a user gets it: with this crate and with Helm.

mod chart;
mod crds;
mod permissions;
