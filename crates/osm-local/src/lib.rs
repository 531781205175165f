//! The runner: manifests of Kubernetes as processes on one Linux machine, without a cluster.
//!
//! [`plan`] and the life of a pod ([`pod`]) are pure; around them is one loop that owns everything. The runner lives
//! in namespaces of its own, of which the kernel takes care when it ends, however it ends. It is a runner, not an API
//! server: nothing else of Kubernetes is here.

mod action;
mod addresses;
mod admission;
mod config_maps;
mod container;
mod control;
mod desired;
mod endpoints;
mod enter;
mod environment;
mod first_process;
mod hidden;
mod host;
mod images;
mod inside;
mod log_file;
mod names;
mod network;
pub mod plan;
pub mod pod;
mod pod_task;
mod preview;
mod probes;
mod process;
mod publish;
mod reach;
mod runner;
mod services;
mod spawn;
mod state_dir;
pub mod status;
mod supervise;
mod support;
mod volumes;

pub use addresses::{CLUSTER_DOMAIN, DNS, GATEWAY, IpFamilies};
pub use control::{Changes, ManifestText, Outcome, Request, Response};
pub use desired::{
    Desired, DesiredDeployment, DesiredJob, DesiredPod, MAX_PODS, OSM_NAMESPACE, Owner, Replacement, completed, desired,
};
pub use hidden::run_hidden;
pub use host::{Down, Failure, Local, Up};
pub use images::{Image, Images, ImagesError};
pub use network::BRIDGE;
pub use preview::preview;
pub use process::ProcessSpec;
pub use reach::POLICY_KINDS;
pub use state_dir::{RunnerProcess, StateDir};
pub use status::Status;
