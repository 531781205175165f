//! In the pod: [`init`] installs redirection and the hold, [`agent`] starts Envoy, keeps it running and programmed, and
//! says what it waits for. [`merged`] does both, one after the other.

pub mod agent;
pub mod app_sockets;
pub mod awaited;
pub mod bootstrap;
mod complaint;
pub mod config;
pub mod controller;
pub mod downstream;
pub mod envoy;
pub mod envoy_admin;
mod envoy_log;
pub mod farewell;
pub mod fault;
pub mod gate;
pub mod identity;
pub mod init;
pub mod ipv6;
pub mod last_good;
mod memory;
pub mod merged;
pub mod observer;
pub mod pages;
pub mod park;
pub mod prober;
pub mod probes;
mod proc;
pub mod pulse;
pub mod quit;
pub mod ready;
pub mod reaper;
pub mod relay;
mod reporter;
pub mod restarts;
#[cfg(test)]
mod scratch;
pub mod secrets;
pub mod state_dir;
mod stillness;
pub mod timeline;
pub mod verdicts;

pub use config::{AgentArgs, Config};
pub use pages::Listeners;
