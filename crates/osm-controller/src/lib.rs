//! The controller: one loop from changes to sessions, certificates, health.
//!
//! `control` is the loop and alone owns the World. `proxies` is what it tells, by pod; `ads` lets pods in and lets
//! them follow. `caller` says who calls, by the runner's own tokens or by the `reviews` of a cluster. `certificate`
//! signs. `peers` sees to it that others know of a pod before it is ready, and no more before it ends. `pod_conditions` writes what the controller says about pods into their status. `port` serves both to sidecars. `webhook` answers the API server. The rest is put together in `run`.

mod control;
mod metrics;
mod proxies;

mod ads;
mod caller;
mod certificate;
mod peers;
mod pod_conditions;
mod port;
mod reviews;
mod serving;
mod standing;
mod startups;

mod webhook;

mod authority;
mod complaints;
mod config;
mod debug;
mod event;
mod preset;
mod run;
mod state_dir;

pub use config::{Args, Cluster, Config, Listeners, Platform};
pub use control::{Core, Snapshot};
pub use run::run;
pub use webhook::{WebhookArgs, WebhookConfig};
