//! What is seen of a pod from outside, in words that fit a cluster and a runner.

use jiff::Timestamp;
use serde::Serialize;

use crate::Reason;

/// A pod as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The start-up shape and why; none outside the mesh.
    pub shape: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// What happened to it, in any order.
    pub steps: Vec<Step>,
    /// Its containers, in the order in which they start.
    pub containers: Vec<ContainerSeen>,
    /// What keeps it from being made or placed.
    pub denied: Option<(Reason, String)>,
    /// What its readiness gates wait for.
    pub peers_pending: Option<String>,
    /// Whether all that should run does, and passes its probes.
    pub is_ready: bool,
    /// Whether nothing of it will run any more.
    pub is_over: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// Which kind of thing.
    pub kind: StepKind,
    /// In words.
    pub what: String,
}

/// The kinds of things that happen to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// It was made.
    Created,
    /// Injection has decided.
    Admitted,
    /// A node was chosen.
    Scheduled,
    /// Its network is there.
    NetworkReady,
    /// `osm-init` started.
    InitStarted,
    /// `osm-init` ended: redirection and hold are in place.
    InitEnded,
    /// The sidecar's container started.
    SidecarStarted,
    /// The agent began its work.
    AgentStarted,
    /// An earlier life's state was taken up.
    LastGoodRestored,
    /// The certificate is there.
    IdentityIssued,
    /// The stream to the controller is open.
    ControllerReached,
    /// The controller has answered.
    ConfigurationReceived,
    /// Envoy's process is there.
    EnvoyStarted,
    /// Envoy acknowledged all of a kind.
    Acknowledged,
    /// The gate opened.
    GateOpened,
    /// A container of the application started.
    ApplicationStarted,
    /// The application's first connection.
    FirstConnection,
    /// Envoy ended.
    EnvoyEnded,
    /// The gate opened once more.
    GateOpenedAgain,
    /// The pod is ready.
    Ready,
    /// Something else.
    Other,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that goes on running.
    Sidecar,
    /// One of the pod's `containers`.
    App,
}

/// A container as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub state: ContainerState,
    /// How it last ended.
    pub last_end: Option<Ended>,
    /// Whether it runs and passes its probes.
    pub is_ready: bool,
    /// The end of what it wrote, if that can be had.
    pub last_words: String,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It does not run.
    Waiting {
        /// In the kubelet's word, such as `ErrImagePull`; empty if it only waits for its turn.
        reason: String,
        /// In the kubelet's words.
        message: String,
    },
    /// It runs.
    Running {
        /// Since then.
        since: Timestamp,
    },
    /// It ended and stays so.
    Ended(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// In the kubelet's word, such as `OOMKilled`.
    pub reason: String,
    /// When, if that is known.
    pub at: Option<Timestamp>,
}

impl ContainerSeen {
    /// Whether it has done its work and ended well.
    pub fn has_succeeded(&self) -> bool {
        matches!(&self.state, ContainerState::Ended(Ended { code: 0, .. }))
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// How it ended, if it has and badly so, whether or not it is started again.
    pub fn bad_end(&self) -> Option<&Ended> {
        let end = match &self.state {
            ContainerState::Ended(end) => Some(end),
            ContainerState::Waiting { .. } => self.last_end.as_ref(),
            ContainerState::Running { .. } => None,
        };
        end.filter(|end| end.code != 0)
    }
}
