//! What tests share: golden files, waiting with a deadline, where Envoy is and what it says of a configuration, programs
//! that other users can start.

mod envoy;
mod eventually;
mod golden;
mod reachable;

pub use envoy::{envoy, find_envoy, validate_with_envoy};
pub use eventually::{Outcome, eventually};
pub use golden::{Case, golden, golden_text};
pub use reachable::reachable_by_everybody;
