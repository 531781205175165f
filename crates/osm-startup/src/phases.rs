//! How long each part of a pod's start took.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::seen::{Step, StepKind};

/// A part of a pod's start. Some overlap: Envoy starts while the certificate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Until a node is chosen and the network is there.
    Placed,
    /// `osm-init`, from its turn to its end.
    Init,
    /// From there until the agent runs.
    Agent,
    /// From there until the certificate is there.
    Identity,
    /// From the agent's start until the controller is reached.
    Controller,
    /// From there until the configuration is there.
    Configuration,
    /// From the agent's start until Envoy runs.
    Envoy,
    /// From configuration and Envoy until all is acknowledged and the gate opens.
    Acknowledged,
    /// From the pod's making until the gate opens.
    Gate,
    /// From the pod's making until the application runs.
    Application,
    /// From the pod's making until it is ready.
    Ready,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Phase; 11] = [
        Phase::Placed,
        Phase::Init,
        Phase::Agent,
        Phase::Identity,
        Phase::Controller,
        Phase::Configuration,
        Phase::Envoy,
        Phase::Acknowledged,
        Phase::Gate,
        Phase::Application,
        Phase::Ready,
    ];

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Placed => "placed",
            Phase::Init => "init",
            Phase::Agent => "agent",
            Phase::Identity => "identity",
            Phase::Controller => "controller",
            Phase::Configuration => "configuration",
            Phase::Envoy => "envoy",
            Phase::Acknowledged => "acknowledged",
            Phase::Gate => "gate",
            Phase::Application => "application",
            Phase::Ready => "ready",
        }
    }

    /// What it begins after, the latest of these, and what ends it.
    fn bounds(self) -> (&'static [StepKind], StepKind) {
        use StepKind::{
            AgentStarted, ApplicationStarted, ConfigurationReceived, ControllerReached, Created, EnvoyStarted,
            GateOpened, IdentityIssued, InitEnded, InitStarted, NetworkReady, Ready, Scheduled,
        };
        match self {
            // A runner has no scheduler; there it is the network.
            Phase::Placed => (&[Created], Scheduled),
            Phase::Init => (&[Created, Scheduled, NetworkReady], InitEnded),
            Phase::Agent => (&[Created, Scheduled, NetworkReady, InitStarted, InitEnded], AgentStarted),
            Phase::Identity => (&[AgentStarted], IdentityIssued),
            Phase::Controller => (&[AgentStarted], ControllerReached),
            Phase::Configuration => (&[AgentStarted, ControllerReached], ConfigurationReceived),
            Phase::Envoy => (&[AgentStarted], EnvoyStarted),
            Phase::Acknowledged => (&[IdentityIssued, ConfigurationReceived, EnvoyStarted], GateOpened),
            Phase::Gate => (&[Created], GateOpened),
            Phase::Application => (&[Created], ApplicationStarted),
            Phase::Ready => (&[Created], Ready),
        }
    }
}

/// What a step waited for, the latest of these; nothing for a step that is only a moment.
pub fn waited_for(kind: StepKind) -> &'static [StepKind] {
    match kind {
        StepKind::Admitted | StepKind::Scheduled | StepKind::NetworkReady => &[StepKind::Created],
        StepKind::InitStarted => &[StepKind::Created, StepKind::Scheduled, StepKind::NetworkReady],
        StepKind::InitEnded => &[StepKind::InitStarted],
        StepKind::SidecarStarted => &[StepKind::InitEnded],
        StepKind::AgentStarted => &[StepKind::InitEnded, StepKind::SidecarStarted],
        StepKind::IdentityIssued | StepKind::ControllerReached | StepKind::EnvoyStarted => &[StepKind::AgentStarted],
        StepKind::ConfigurationReceived => &[StepKind::ControllerReached],
        StepKind::Acknowledged | StepKind::GateOpened => {
            &[StepKind::IdentityIssued, StepKind::ConfigurationReceived, StepKind::EnvoyStarted]
        }
        StepKind::ApplicationStarted => &[StepKind::InitEnded],
        StepKind::FirstConnection => &[StepKind::ApplicationStarted],
        StepKind::GateOpenedAgain => &[StepKind::EnvoyEnded],
        StepKind::Ready => &[StepKind::GateOpened, StepKind::ApplicationStarted],
        StepKind::Created | StepKind::LastGoodRestored | StepKind::EnvoyEnded | StepKind::Other => &[],
    }
}

/// The parts of a start that are over, each with its length.
pub fn phases(steps: &[Step]) -> Vec<(Phase, Duration)> {
    let first = |kind: StepKind| steps.iter().filter(|step| step.kind == kind).map(|step| step.at).min();
    let length = |phase: Phase| -> Option<Duration> {
        let (begins, ends) = phase.bounds();
        let instead = if phase == Phase::Placed { first(StepKind::NetworkReady) } else { None };
        let end = first(ends).or(instead)?;
        let begin: Timestamp = begins.iter().filter_map(|kind| first(*kind)).max()?;
        // Times from different clocks, or rounded to seconds, may be in the wrong order.
        Some(Duration::try_from(end.duration_since(begin)).unwrap_or_default())
    };
    Phase::ALL.into_iter().filter_map(|phase| Some((phase, length(phase)?))).collect()
}
