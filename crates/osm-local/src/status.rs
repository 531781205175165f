//! What the runner says about itself: the shape of `osm local status -o json`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use osm_api::{NamespacedName, Problem, k8s};
use serde::{Deserialize, Serialize};

use crate::addresses::PodIps;
use crate::pod::{Phase, Role};

/// Everything that a runner says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The runner's name.
    pub name: String,
    /// The runner's process, as the machine counts.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started_at_unix_ms: i64,
    /// Whether every pod is ready or has succeeded, nothing is refused, and the controller is ready.
    pub ready: bool,
    /// The control plane.
    pub controller: ControllerStatus,
    /// The pods, in order of names.
    pub pods: Vec<PodStatus>,
    /// The Jobs, in order of names.
    #[serde(default)]
    pub jobs: Vec<JobStatus>,
    /// The services, in order of names.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with objects, or not carried out.
    pub problems: Vec<Problem>,
    /// What may not work as expected, though all is as asked for.
    pub warnings: Vec<Problem>,
}

/// The control plane's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// Its process in the runner's pid namespace; none while it does not run.
    pub pid: Option<u32>,
    /// Whether its `/health/ready` says so.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it does not run or is not ready; empty when it is.
    pub reason: String,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address, as soon as its network is there.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address, in a network that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// The router's end of its network, for packet captures.
    pub interface: Option<String>,
    /// As in Kubernetes.
    pub phase: Phase,
    /// Whether it may be sent traffic.
    pub ready: bool,
    /// Whether it has been told to stop.
    pub terminating: bool,
    /// What it waits for or why it failed; empty when all is well.
    pub reason: String,
    /// The Deployment that it belongs to.
    pub deployment: Option<NamespacedName>,
    /// The Job that it belongs to.
    #[serde(default)]
    pub job: Option<NamespacedName>,
    /// The start-up shape and why, when it is in the mesh.
    pub injected: Option<String>,
    /// What the controller says of it, as conditions of its status, in order of their types.
    #[serde(default)]
    pub conditions: Vec<k8s::PodCondition>,
    /// Its containers, in the order in which they start.
    pub containers: Vec<ContainerStatus>,
    /// What happened to it, in order.
    pub timeline: Vec<TimelineEntry>,
    /// What its sidecar says about its own start (`/osm-sidecar/startup`), as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<serde_json::Value>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its image.
    pub image: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Whether it runs and passes its probes.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its first process in the runner's pid namespace, while it runs.
    pub pid: Option<u32>,
    /// Its exit code when it last ended; 128 and the signal's number if a signal ended it.
    pub exit_code: Option<i32>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// Not started yet.
    Waiting,
    /// Running.
    Running,
    /// Ended, and starts again after a delay.
    BackOff,
    /// Ended for good.
    Exited,
}

/// One thing that happened to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// What.
    pub event: TimelineEvent,
    /// To which container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// With which exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// What can happen to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimelineEvent {
    /// The runner took it in.
    Created,
    /// Injection has decided; the pod is what it will be.
    Admitted,
    /// Its network namespace is connected.
    NetworkReady,
    /// A container's process was started.
    ContainerStarted,
    /// A container's startup probe passed.
    ContainerPassedStartup,
    /// A container began to pass its readiness probe.
    ContainerReady,
    /// A container stopped passing its readiness probe.
    ContainerUnready,
    /// A container's `postStart` hook failed; it is ended.
    ContainerFailedPostStart,
    /// A container's liveness probe failed too often in a row; it is ended.
    ContainerFailedLiveness,
    /// A container ended.
    ContainerExited,
    /// The pod is ready for traffic.
    Ready,
    /// The pod is no longer ready for traffic.
    Unready,
    /// The pod was told to stop.
    Stopping,
    /// Nothing of it runs any more, and nothing will.
    Over,
}

/// One Job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it goes on, or how it ended.
    pub state: JobPhase,
    /// Why it failed, in the words of Kubernetes; empty otherwise.
    pub reason: String,
    /// How many pods must succeed; none when the first success is the end of it.
    pub completions: Option<usize>,
    /// How many pods run.
    pub active: usize,
    /// How many pods succeeded.
    pub succeeded: usize,
    /// How many pods failed.
    pub failed: usize,
}

/// Where a Job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobPhase {
    /// It goes on.
    Running,
    /// It has been told to start no pods.
    Suspended,
    /// As many pods succeeded as were asked for.
    Complete,
    /// It was given up.
    Failed,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its first address; none for a headless one.
    pub cluster_ip: Option<IpAddr>,
    /// All of its addresses, if there is more than that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports, as `80/TCP`.
    pub ports: Vec<String>,
    /// The addresses of the pods behind it that are ready.
    pub ready_endpoints: Vec<IpAddr>,
}

impl PodStatus {
    /// Its addresses, as soon as its network is there.
    pub(crate) fn ips(&self) -> Option<PodIps> {
        Some(PodIps { v4: self.ip?, v6: self.ipv6 })
    }

    /// Whether nobody needs to wait for this pod any longer: it is ready, or has done its work. What it means that a
    /// Job's pod has failed, the Job says.
    pub fn is_settled(&self) -> bool {
        self.ready || self.phase == Phase::Succeeded || (self.job.is_some() && self.phase == Phase::Failed)
    }
}
