//! What resolve makes of manifests (golden files), and the laws that hold for every World.

mod golden;
mod laws;
mod patterns;
mod policy_laws;
