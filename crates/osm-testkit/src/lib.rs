//! What tests and benches share: golden files, waiting with a deadline, an API server, where Envoy is and what it says of
//! a configuration, programs that other users can start, how far a long run is.

mod api_server;
mod checkout;
mod envoy;
mod eventually;
mod golden;
mod progress;
mod reachable;

pub use api_server::ApiServer;
pub use checkout::in_checkout;
pub use envoy::{envoy, find_envoy, validate_with_envoy};
pub use eventually::{Outcome, eventually};
pub use golden::{Case, golden, golden_text};
pub use progress::Progress;
pub use reachable::reachable_by_everybody;
