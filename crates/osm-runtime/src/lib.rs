//! What every process of ours needs: clock, chance, telemetry, tasks and their end, health, the admin server,
//! delays between attempts, and a small HTTP client.
//!
//! Nothing here knows the mesh. The only place where the time of day and randomness come from outside.

pub mod admin;
pub mod backoff;
pub mod chance;
pub mod clock;
pub mod health;
pub mod http;
pub mod tasks;
pub mod telemetry;
pub mod version;

pub use backoff::Backoff;
pub use health::{Heartbeat, Liveness, Pending, Readiness};
pub use tasks::Tasks;
pub use version::Version;
