//! Policies, as users of SMI and OSM write them: who may reach whom.
//!
//! The types hold what was written; what it grants is decided in `osm-resolve`. TrafficSplit (`split.smi-spec.io`)
//! belongs beside them: it says where requests go, not who may send them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::k8s;

/// Lets service accounts reach one service account (`access.smi-spec.io/v1alpha3`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficTarget {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: k8s::ObjectMeta,
    /// Who, whom and how.
    #[serde(default)]
    pub spec: TrafficTargetSpec,
}

/// `spec` of a [`TrafficTarget`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficTargetSpec {
    /// Who is reached.
    pub destination: Subject,
    /// What they may be sent; the rules are a union.
    pub rules: Vec<TrafficTargetRule>,
    /// Who reaches them; the sources are a union.
    pub sources: Vec<Subject>,
}

/// Who: a service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// `ServiceAccount`
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

/// One of a [`TrafficTarget`]'s rules: a route object in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficTargetRule {
    /// `HTTPRouteGroup` or `TCPRoute`
    pub kind: String,
    /// The name of the route object.
    pub name: String,
    /// Names of the route object's matches; all of them when empty (SMI, Traffic Access Control v1alpha3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// Sets of HTTP requests by name (`specs.smi-spec.io/v1alpha4`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpRouteGroup {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: k8s::ObjectMeta,
    /// The sets.
    #[serde(default)]
    pub spec: HttpRouteGroupSpec,
}

/// `spec` of a [`HttpRouteGroup`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRouteGroupSpec {
    /// The sets.
    pub matches: Vec<HttpMatch>,
}

/// One set of HTTP requests: those for which everything here holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// What rules call it.
    pub name: String,
    /// A regular expression (RE2) for the whole path, without the query; every path when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path_regex: String,
    /// Methods; `*`, or nothing, is every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Regular expressions (RE2) for the whole values of headers; `host` is the authority of HTTP/2.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<BTreeMap<String, String>>,
}

/// A set of TCP ports (`specs.smi-spec.io/v1alpha4`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: k8s::ObjectMeta,
    /// The ports.
    #[serde(default)]
    pub spec: TcpRouteSpec,
}

/// `spec` of a [`TcpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpRouteSpec {
    /// The ports.
    pub matches: TcpMatch,
}

/// `spec.matches` of a [`TcpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpMatch {
    /// What rules may call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Ports of the pods that are reached (target ports, not a service's); every TCP port when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<i64>,
}
