//! What the cluster says: objects, changes, the [`World`], and manifests.
//!
//! This crate knows every kind that `osm` reads, and nothing of what the kinds mean together;
//! that is `osm-resolve`.

mod manifest;
mod mesh_config;
mod names;
mod object;
mod pod;
mod policy;
mod problem;
mod world;

pub use manifest::{ManifestSet, Reading, Update, closed_settings, read_object};
pub use mesh_config::{
    Certificate, FeatureFlags, InboundExternalAuthorization, IngressGateway, LocalProxyMode, MESH_CONFIG_NAME,
    MeshConfig, MeshConfigSpec, Observability, Sidecar, Tracing, Traffic,
};
pub use names::*;
pub use object::{Kind, NamespacedName, Object, ObjectKey};
pub use pod::{is_injected, is_over};
pub use policy::{
    HttpMatch, HttpRouteGroup, HttpRouteGroupSpec, Subject, TcpMatch, TcpRoute, TcpRouteSpec, TrafficTarget,
    TrafficTargetRule, TrafficTargetSpec,
};
pub use problem::{Origin, Problem, Reason};
pub use world::pod_status::CONTAINERS_READY;
pub use world::{Change, Changed, World};

/// Kubernetes types by the name that the house style asks for: `k8s::Pod`, not `Pod`.
pub mod k8s {
    pub use k8s_openapi::api::apps::v1::Deployment;
    pub use k8s_openapi::api::batch::v1::{Job, JobSpec};
    pub use k8s_openapi::api::core::v1::*;
    pub use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
    pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
}
