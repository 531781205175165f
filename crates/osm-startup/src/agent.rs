//! What an agent says about its pod's start: the body of its start-up page, and of its reports to the controller.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Missing;
use crate::seen::{Step, StepKind};

/// What an agent says. Times are milliseconds since 1970; what has not happened is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentReport {
    /// The agent's process began its work.
    pub agent_started: Option<i64>,
    /// The last good state of an earlier life was taken up.
    pub last_good_restored: Option<i64>,
    /// The workload certificate was there.
    pub identity_issued: Option<i64>,
    /// The stream to the controller was open.
    pub controller_connected: Option<i64>,
    /// The controller's first answer was there.
    pub first_resources: Option<i64>,
    /// Envoy's process was there.
    pub envoy_started: Option<i64>,
    /// Envoy had acknowledged all of a kind, by kind.
    pub acknowledged: BTreeMap<String, i64>,
    /// The gate opened for the first time.
    pub programmed: Option<i64>,
    /// The first connection of the application was seen.
    pub first_connection: Option<i64>,
    /// Envoy's ends that nobody asked for, the last of them.
    pub envoy_restarts: Vec<Restart>,
    /// Whether the gate is open.
    pub is_programmed: bool,
    /// What is missing.
    pub missing: Vec<Missing>,
}

/// One end of Envoy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Restart {
    /// When.
    pub ended: i64,
    /// Why.
    pub reason: String,
    /// When its successor was programmed.
    pub programmed: Option<i64>,
}

impl AgentReport {
    /// What happened, as steps of the pod's start.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |at: Option<i64>, kind: StepKind, what: String| {
            let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
            steps.extend(at.map(|at| Step { at, kind, what }));
        };
        for (at, kind, what) in [
            (self.agent_started, StepKind::AgentStarted, "agent runs"),
            (self.last_good_restored, StepKind::LastGoodRestored, "goes on from the last good state"),
            (self.identity_issued, StepKind::IdentityIssued, "identity issued"),
            (self.controller_connected, StepKind::ControllerReached, "controller reached"),
            (self.first_resources, StepKind::ConfigurationReceived, "configuration received"),
            (self.envoy_started, StepKind::EnvoyStarted, "Envoy runs"),
            (self.programmed, StepKind::GateOpened, "programmed: the gate is open"),
            (self.first_connection, StepKind::FirstConnection, "first connection of the application"),
        ] {
            add(at, kind, what.to_owned());
        }
        for (kind, at) in &self.acknowledged {
            add(Some(*at), StepKind::Acknowledged, format!("Envoy acknowledged: {kind}"));
        }
        for restart in &self.envoy_restarts {
            add(Some(restart.ended), StepKind::EnvoyEnded, format!("Envoy {}", restart.reason));
            add(restart.programmed, StepKind::GateOpenedAgain, "programmed again".to_owned());
        }
        steps
    }
}
