//! What happened in the start of this pod, and when. Times are milliseconds since 1970, so that `osm startup` can put
//! them beside what Kubernetes and the controller say.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use osm_xds::ResourceType;
use serde::Serialize;

/// More restarts than these are only counted: a crash loop of weeks must not fill the memory.
const RESTARTS_KEPT: usize = 50;

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct UnixMs(pub i64);

impl From<Timestamp> for UnixMs {
    fn from(time: Timestamp) -> UnixMs {
        UnixMs(time.as_millisecond())
    }
}

/// The first time of each step. Steps that have not happened are `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The agent's process began its work.
    pub agent_started: Option<UnixMs>,
    /// The last good state of an earlier life was taken up.
    pub last_good_restored: Option<UnixMs>,
    /// The workload certificate was there.
    pub identity_issued: Option<UnixMs>,
    /// The stream to the controller was open.
    pub controller_connected: Option<UnixMs>,
    /// The controller's first answer was there.
    pub first_resources: Option<UnixMs>,
    /// Envoy's process was there.
    pub envoy_started: Option<UnixMs>,
    /// Envoy had acknowledged all it was given of a kind, by kind.
    pub acknowledged: BTreeMap<ResourceType, UnixMs>,
    /// The gate opened.
    pub programmed: Option<UnixMs>,
    /// Envoy had taken a connection of the application; seen up to a second late.
    pub first_connection: Option<UnixMs>,
    /// How often Envoy ended though nobody asked it to.
    pub envoy_restart_count: u64,
    /// The last of these restarts, oldest first.
    pub envoy_restarts: VecDeque<Restart>,
}

/// One end of Envoy that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// When it ended.
    pub ended: UnixMs,
    /// Why, such as `was killed by signal 9 (SIGKILL)`.
    pub reason: String,
    /// When its successor's process was there.
    pub started: Option<UnixMs>,
    /// When its successor was programmed.
    pub programmed: Option<UnixMs>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The agent began.
    AgentStarted,
    /// The last good state is taken up.
    LastGoodRestored,
    /// The certificate is there.
    IdentityIssued,
    /// The stream to the controller is open.
    ControllerConnected,
    /// The controller has answered.
    FirstResources,
    /// A process of Envoy is there.
    EnvoyStarted,
    /// Envoy ended, and why.
    EnvoyEnded(String),
    /// Envoy has acknowledged all of a kind.
    Acknowledged(ResourceType),
    /// The gate opened.
    Programmed,
    /// Envoy has taken a connection of the application.
    FirstConnection,
}

impl Timeline {
    /// Takes in one thing that happened at `at`. Only the first time of a step counts.
    pub fn note(&mut self, step: Step, at: Timestamp) {
        let at = UnixMs::from(at);
        match step {
            Step::AgentStarted => first(&mut self.agent_started, at),
            Step::LastGoodRestored => first(&mut self.last_good_restored, at),
            Step::IdentityIssued => first(&mut self.identity_issued, at),
            Step::ControllerConnected => first(&mut self.controller_connected, at),
            Step::FirstResources => first(&mut self.first_resources, at),
            Step::FirstConnection => first(&mut self.first_connection, at),
            Step::EnvoyStarted => {
                first(&mut self.envoy_started, at);
                if let Some(restart) = self.envoy_restarts.back_mut() {
                    first(&mut restart.started, at);
                }
            }
            Step::EnvoyEnded(reason) => {
                self.envoy_restart_count += 1;
                self.envoy_restarts.push_back(Restart { ended: at, reason, started: None, programmed: None });
                if self.envoy_restarts.len() > RESTARTS_KEPT {
                    self.envoy_restarts.pop_front();
                }
            }
            Step::Acknowledged(kind) => {
                self.acknowledged.entry(kind).or_insert(at);
            }
            Step::Programmed => {
                first(&mut self.programmed, at);
                if let Some(restart) = self.envoy_restarts.back_mut() {
                    first(&mut restart.programmed, at);
                }
            }
        }
    }
}

fn first(slot: &mut Option<UnixMs>, at: UnixMs) {
    slot.get_or_insert(at);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn only_the_first_time_of_a_step_counts_and_a_restart_has_its_own_times() {
        let mut timeline = Timeline::default();
        for (ms, step) in [
            (1, Step::AgentStarted),
            (2, Step::EnvoyStarted),
            (3, Step::Acknowledged(ResourceType::Cluster)),
            (4, Step::Programmed),
            (10, Step::EnvoyEnded("was killed".into())),
            (11, Step::EnvoyStarted),
            (12, Step::Acknowledged(ResourceType::Cluster)),
            (13, Step::Programmed),
        ] {
            timeline.note(step, at(ms));
        }
        assert_eq!(
            serde_json::to_value(&timeline).unwrap(),
            serde_json::json!({
                "agentStarted": 1, "lastGoodRestored": null, "identityIssued": null, "controllerConnected": null,
                "firstResources": null,
                "envoyStarted": 2, "acknowledged": { "cluster": 3 }, "programmed": 4, "firstConnection": null, "envoyRestartCount": 1,
                "envoyRestarts": [{ "ended": 10, "reason": "was killed", "started": 11, "programmed": 13 }],
            })
        );
    }

    #[test]
    fn a_crash_loop_keeps_the_last_restarts_and_counts_all() {
        let mut timeline = Timeline::default();
        for ms in 0..1000 {
            timeline.note(Step::EnvoyEnded("exited with status 1".into()), at(ms));
        }
        assert_eq!((timeline.envoy_restart_count, timeline.envoy_restarts.len()), (1000, RESTARTS_KEPT));
        assert_eq!(timeline.envoy_restarts[0].ended, UnixMs(950));
    }
}
