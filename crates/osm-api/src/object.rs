//! The objects that `osm` reads, their kinds and their keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{HttpRouteGroup, MeshConfig, TcpRoute, TrafficTarget, k8s};

/// One object of the cluster, of a kind that `osm` reads.
#[expect(clippy::large_enum_variant, reason = "the World keeps each kind in a map of its own, and a Change boxes it")]
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A namespace; its labels say which mesh it belongs to.
    Namespace(k8s::Namespace),
    /// The identity that a workload runs as.
    ServiceAccount(k8s::ServiceAccount),
    /// A name and an address for a set of pods.
    Service(k8s::Service),
    /// The addresses behind a service.
    EndpointSlice(k8s::EndpointSlice),
    /// A pod.
    Pod(k8s::Pod),
    /// A number of equal pods.
    Deployment(k8s::Deployment),
    /// Pods that run until so many of them have succeeded.
    Job(k8s::Job),
    /// Texts by name, for pods to read.
    ConfigMap(k8s::ConfigMap),
    /// The settings of the mesh.
    MeshConfig(MeshConfig),
    /// Sets of HTTP requests that grants name.
    HttpRouteGroup(HttpRouteGroup),
    /// Sets of TCP ports that grants name.
    TcpRoute(TcpRoute),
    /// Who may reach whom: a grant.
    TrafficTarget(TrafficTarget),
}

/// The kinds of [`Object`], in the order in which they are best applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1 Namespace`
    Namespace,
    /// `config.openservicemesh.io/v1alpha2 MeshConfig`
    MeshConfig,
    /// `v1 ServiceAccount`
    ServiceAccount,
    /// `v1 ConfigMap`
    ConfigMap,
    /// `specs.smi-spec.io/v1alpha4 HTTPRouteGroup`
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
    /// `specs.smi-spec.io/v1alpha4 TCPRoute`
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    /// `access.smi-spec.io/v1alpha3 TrafficTarget`
    TrafficTarget,
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `apps/v1 Deployment`
    Deployment,
    /// `batch/v1 Job`
    Job,
    /// `v1 Pod`
    Pod,
}

/// A namespaced object's place, without its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespacedName {
    /// The namespace; empty for an object of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What tells one object from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for an object of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Namespace(_) => Kind::Namespace,
            Object::ServiceAccount(_) => Kind::ServiceAccount,
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Pod(_) => Kind::Pod,
            Object::Deployment(_) => Kind::Deployment,
            Object::Job(_) => Kind::Job,
            Object::ConfigMap(_) => Kind::ConfigMap,
            Object::MeshConfig(_) => Kind::MeshConfig,
            Object::HttpRouteGroup(_) => Kind::HttpRouteGroup,
            Object::TcpRoute(_) => Kind::TcpRoute,
            Object::TrafficTarget(_) => Kind::TrafficTarget,
        }
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        ObjectKey {
            kind: self.kind(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// The metadata.
    pub fn metadata(&self) -> &k8s::ObjectMeta {
        match self {
            Object::Namespace(o) => &o.metadata,
            Object::ServiceAccount(o) => &o.metadata,
            Object::Service(o) => &o.metadata,
            Object::EndpointSlice(o) => &o.metadata,
            Object::Pod(o) => &o.metadata,
            Object::Deployment(o) => &o.metadata,
            Object::Job(o) => &o.metadata,
            Object::ConfigMap(o) => &o.metadata,
            Object::MeshConfig(o) => &o.metadata,
            Object::HttpRouteGroup(o) => &o.metadata,
            Object::TcpRoute(o) => &o.metadata,
            Object::TrafficTarget(o) => &o.metadata,
        }
    }

    /// The metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut k8s::ObjectMeta {
        match self {
            Object::Namespace(o) => &mut o.metadata,
            Object::ServiceAccount(o) => &mut o.metadata,
            Object::Service(o) => &mut o.metadata,
            Object::EndpointSlice(o) => &mut o.metadata,
            Object::Pod(o) => &mut o.metadata,
            Object::Deployment(o) => &mut o.metadata,
            Object::Job(o) => &mut o.metadata,
            Object::ConfigMap(o) => &mut o.metadata,
            Object::MeshConfig(o) => &mut o.metadata,
            Object::HttpRouteGroup(o) => &mut o.metadata,
            Object::TcpRoute(o) => &mut o.metadata,
            Object::TrafficTarget(o) => &mut o.metadata,
        }
    }

    /// The object as the manifest that [`crate::ManifestSet`] reads again, `apiVersion` and `kind` included.
    pub fn to_manifest(&self) -> serde_json::Value {
        let typed = match self {
            Object::Namespace(o) => serde_json::to_value(o),
            Object::ServiceAccount(o) => serde_json::to_value(o),
            Object::Service(o) => serde_json::to_value(o),
            Object::EndpointSlice(o) => serde_json::to_value(o),
            Object::Pod(o) => serde_json::to_value(o),
            Object::Deployment(o) => serde_json::to_value(o),
            Object::Job(o) => serde_json::to_value(o),
            Object::ConfigMap(o) => serde_json::to_value(o),
            Object::MeshConfig(o) => serde_json::to_value(o),
            Object::HttpRouteGroup(o) => serde_json::to_value(o),
            Object::TcpRoute(o) => serde_json::to_value(o),
            Object::TrafficTarget(o) => serde_json::to_value(o),
        };
        let mut value = typed.expect("Kubernetes types have string keys only, so they are JSON");
        let kind = self.kind();
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.name().into();
        value
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 12] = [
        Kind::Namespace,
        Kind::MeshConfig,
        Kind::ServiceAccount,
        Kind::ConfigMap,
        Kind::HttpRouteGroup,
        Kind::TcpRoute,
        Kind::TrafficTarget,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Deployment,
        Kind::Job,
        Kind::Pod,
    ];

    /// The name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
            Kind::Deployment => "Deployment",
            Kind::Job => "Job",
            Kind::ConfigMap => "ConfigMap",
            Kind::MeshConfig => "MeshConfig",
            Kind::HttpRouteGroup => "HTTPRouteGroup",
            Kind::TcpRoute => "TCPRoute",
            Kind::TrafficTarget => "TrafficTarget",
        }
    }

    /// The `apiVersion` in manifests.
    pub fn api_version(self) -> &'static str {
        match self {
            Kind::Namespace | Kind::ServiceAccount | Kind::Service | Kind::Pod | Kind::ConfigMap => "v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::Deployment => "apps/v1",
            Kind::Job => "batch/v1",
            Kind::MeshConfig => "config.openservicemesh.io/v1alpha2",
            Kind::HttpRouteGroup | Kind::TcpRoute => "specs.smi-spec.io/v1alpha4",
            Kind::TrafficTarget => "access.smi-spec.io/v1alpha3",
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        match self {
            Kind::Namespace => false,
            Kind::ServiceAccount
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Pod
            | Kind::Deployment
            | Kind::Job
            | Kind::ConfigMap
            | Kind::MeshConfig
            | Kind::HttpRouteGroup
            | Kind::TcpRoute
            | Kind::TrafficTarget => true,
        }
    }

    /// Whether objects of this kind let somebody in. A text that cannot be understood as one withdraws the object that
    /// it held before, and a field that is not known may narrow what is granted, so it is not ignored.
    pub fn grants_access(self) -> bool {
        match self {
            Kind::HttpRouteGroup | Kind::TcpRoute | Kind::TrafficTarget => true,
            Kind::Namespace
            | Kind::MeshConfig
            | Kind::ServiceAccount
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Deployment
            | Kind::Job
            | Kind::ConfigMap
            | Kind::Pod => false,
        }
    }
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Namespace and name.
    pub fn namespaced_name(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl NamespacedName {
    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> NamespacedName {
        NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.namespaced_name())
    }
}
