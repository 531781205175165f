//! The controller: one loop from changes to sessions, certificates, health.
//!
//! `control` is the loop and alone owns the World. `proxies` is what it tells, by pod; `ads` lets pods in and lets
//! them follow. `certificate` signs. `port` serves both to sidecars. `webhook` answers
//! the API server. The rest is put together in `run`.

mod control;
mod metrics;
mod proxies;

mod ads;
mod caller;
mod certificate;
mod port;
mod serving;

mod webhook;

mod authority;
mod config;
mod debug;
mod run;
mod state_dir;

pub use config::{Args, Config, Listeners};
pub use control::{Core, Snapshot};
pub use run::run;
pub use webhook::{WebhookArgs, WebhookConfig};
