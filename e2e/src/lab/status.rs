//! What `osm local status -o json` says, as far as scenarios ask.

use serde::Deserialize;

/// The status of a lab.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) controller: ControllerStatus,
    pub(crate) pods: Vec<PodStatus>,
    pub(crate) jobs: Vec<JobStatus>,
    pub(crate) services: Vec<ServiceStatus>,
}

/// The status of the control plane.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ControllerStatus {
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
}

/// The status of a Job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JobStatus {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
}

/// The status of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) cluster_ip: Option<String>,
    /// All, if there is more than one.
    #[serde(default)]
    pub(crate) cluster_ips: Vec<String>,
}

/// The status of a pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PodStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) ip: Option<String>,
    /// If it has one beside the other.
    #[serde(default)]
    pub(crate) ipv6: Option<String>,
    #[serde(default)]
    pub(crate) ready: bool,
    /// The Job that it belongs to.
    #[serde(default)]
    pub(crate) job: Option<ObjectName>,
    /// The Deployment that it belongs to.
    #[serde(default)]
    pub(crate) deployment: Option<ObjectName>,
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    #[serde(default)]
    pub(crate) containers: Vec<ContainerStatus>,
    /// What it waits for; on a machine only.
    #[serde(default)]
    pub(crate) reason: String,
    /// The shape and why, when it is in the mesh.
    #[serde(default)]
    pub(crate) injected: Option<String>,
    /// What happened to it; on a machine only.
    #[serde(default)]
    pub(crate) timeline: Vec<TimelineEntry>,
}

/// One thing that happened to a pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TimelineEntry {
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) container: Option<String>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// The status of a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) ready: bool,
    #[serde(default)]
    pub(crate) restarts: u32,
    #[serde(default)]
    pub(crate) exit_code: Option<i32>,
    /// Its first process, as the node counts, where that is known.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
}

/// The name of an object in its namespace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ObjectName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectName {
    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl PodStatus {
    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// A container of the pod.
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The exit code of a container that has ended.
    pub(crate) fn exit_code(&self, container: &str) -> Option<i32> {
        self.containers.iter().find(|c| c.name == container)?.exit_code
    }

    /// Its condition of a type.
    pub(crate) fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether its containers have ended for good.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == "Succeeded" || self.phase == "Failed"
    }
}
