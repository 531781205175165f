//! Faults of one pod.

use anyhow::Result;

use crate::lab::Pod;

/// What happens to one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnFault {
    Nothing,
    EnvoyKilled,
    /// Envoy hangs (SIGSTOP).
    EnvoyStopped,
    /// The whole sidecar, agent and Envoy.
    SidecarKilled,
}

impl OwnFault {
    pub(super) const ALL: [OwnFault; 4] =
        [OwnFault::Nothing, OwnFault::EnvoyKilled, OwnFault::EnvoyStopped, OwnFault::SidecarKilled];

    pub(super) fn name(self) -> &'static str {
        match self {
            OwnFault::Nothing => "no fault of their own",
            OwnFault::EnvoyKilled => "Envoy killed",
            OwnFault::EnvoyStopped => "Envoy stopped",
            OwnFault::SidecarKilled => "the sidecar killed",
        }
    }

    /// The step of the pod's start from which on it can be made.
    pub(super) fn possible_from(self) -> &'static str {
        match self {
            OwnFault::Nothing | OwnFault::SidecarKilled => "agent-started",
            OwnFault::EnvoyKilled | OwnFault::EnvoyStopped => "envoy-started",
        }
    }

    /// Makes it. The answer is how many connections were established at that instant.
    pub(super) fn make(self, pod: &Pod<'_>) -> Result<u64> {
        match self {
            OwnFault::Nothing => Ok(0),
            OwnFault::EnvoyKilled => pod.kill_envoy_counting(),
            OwnFault::EnvoyStopped => pod.stop_envoy_until_killed(),
            OwnFault::SidecarKilled => pod.kill_sidecar_counting(),
        }
    }

    /// Whether the agent that is there afterwards may have restarted Envoy so often for it, and have found it hung so often.
    pub(super) fn explains_ends_of_envoy(self, restarts: u64, hangs: u64) -> bool {
        match self {
            OwnFault::Nothing | OwnFault::SidecarKilled => (restarts, hangs) == (0, 0),
            OwnFault::EnvoyKilled => (restarts, hangs) == (1, 0),
            OwnFault::EnvoyStopped => (restarts, hangs) == (1, 1),
        }
    }

    /// Whether a pod may say this because of it.
    pub(super) fn explains(self, reason: &str) -> bool {
        match self {
            OwnFault::Nothing => false,
            OwnFault::EnvoyKilled | OwnFault::EnvoyStopped => reason == "envoy-ended",
            OwnFault::SidecarKilled => reason == "sidecar-ended",
        }
    }
}
