//! Why a pod waits: the reasons there are, who owns each, what to do; and how they are told from what is seen of a pod
//! from outside and from what its agent says. Pure.
//!
//! The agent, the controller and `osm startup` use the same words from here, so that a page, a condition, an Event and
//! a command never disagree.

#![warn(missing_docs)]

mod agent;
mod kubernetes;
mod last_words;
mod missing;
mod owner;
mod phases;
mod reason;
mod seen;
mod standing;

pub use agent::{AgentReport, Restart};
pub use kubernetes::{Denied, denied, seen};
pub use last_words::LastWords;
pub use missing::Missing;
pub use owner::Owner;
pub use phases::{Phase, phases, waited_for};
pub use reason::Reason;
pub use seen::{ContainerSeen, ContainerState, Ended, PodSeen, Role, Step, StepKind};
pub use standing::{Standing, standing};

/// The port on which the agent says how it stands.
pub const STATUS_PORT: u16 = 15904;

/// Where it says so.
pub const STATUS_PATH: &str = "/osm-sidecar/startup";

/// The condition of a pod that says whether it is held, and why.
pub const CONDITION: &str = "openservicemesh.io/StartupGate";
