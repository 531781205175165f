//! `MeshConfig`, as OSM's users write it (`config.openservicemesh.io`, v1alpha1 and v1alpha2).
//!
//! The types hold what was written. What it means, defaults and clamps included, is decided where it is used.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::k8s;

/// The one name under which a `MeshConfig` counts, in the control plane's namespace.
pub const MESH_CONFIG_NAME: &str = "osm-mesh-config";

/// The settings of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeshConfig {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: k8s::ObjectMeta,
    /// The settings.
    #[serde(default)]
    pub spec: MeshConfigSpec,
}

/// The parts of the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfigSpec {
    /// What the sidecars are.
    pub sidecar: Sidecar,
    /// What traffic is redirected and allowed.
    pub traffic: Traffic,
    /// What can be seen.
    pub observability: Observability,
    /// How long certificates last.
    pub certificate: Certificate,
    /// Switches of features.
    pub feature_flags: FeatureFlags,
}

/// `spec.sidecar`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// `osm-init` runs privileged (OpenShift needs it).
    pub enable_privileged_init_container: bool,
    /// Envoy's log level; `error` when empty.
    pub log_level: String,
    /// An image with Envoy alone; accepted with a problem, because ours holds the agent too.
    pub envoy_image: String,
    /// The same for Windows.
    pub envoy_windows_image: String,
    /// The image with agent and Envoy; ours.
    pub image: String,
    /// The image of `osm-init`.
    pub init_container_image: String,
    /// Sidecars that may be connected at once; 0 is no limit.
    pub max_data_plane_connections: i64,
    /// How often every sidecar is sent everything again; kept for old manifests, no longer needed.
    pub config_resync_interval: String,
    /// Resources of the sidecar's container.
    pub resources: SidecarResources,
    /// `TLSv1_0` to `TLSv1_3`, `TLS_AUTO`.
    pub tls_min_protocol_version: String,
    /// `TLSv1_0` to `TLSv1_3`, `TLS_AUTO`.
    pub tls_max_protocol_version: String,
    /// Cipher suites by BoringSSL's names; Envoy's own when empty.
    pub cipher_suites: Vec<String>,
    /// Curves by BoringSSL's names; Envoy's own when empty.
    pub ecdh_curves: Vec<String>,
    /// Where the proxy finds the application in its pod.
    pub local_proxy_mode: Option<LocalProxyMode>,
    /// The start-up shape of pods that do not ask for one; ours. What suits the pod when empty.
    pub startup: String,
    /// What waits until the proxy is ready, in pods that do not say; ours. `kernel` when empty.
    pub hold: String,
}

/// `spec.sidecar.resources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SidecarResources {
    /// Limits by resource.
    pub limits: BTreeMap<String, Quantity>,
    /// Requests by resource.
    pub requests: BTreeMap<String, Quantity>,
}

/// `spec.sidecar.localProxyMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalProxyMode {
    /// On 127.0.0.1.
    Localhost,
    /// On the pod's own address.
    PodIP,
}

/// `spec.traffic`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Traffic {
    /// Destinations outside the mesh may be reached.
    pub enable_egress: bool,
    /// Destination ranges that are not redirected.
    #[serde(rename = "outboundIPRangeExclusionList")]
    pub outbound_ip_range_exclusion_list: Vec<String>,
    /// If not empty, only these destination ranges are redirected.
    #[serde(rename = "outboundIPRangeInclusionList")]
    pub outbound_ip_range_inclusion_list: Vec<String>,
    /// Destination ports that are not redirected.
    pub outbound_port_exclusion_list: Vec<i64>,
    /// Ports of the pod that are not redirected.
    pub inbound_port_exclusion_list: Vec<i64>,
    /// Interfaces whose traffic is not redirected.
    pub network_interface_exclusion_list: Vec<String>,
    /// Every pod of the mesh reaches every service of the mesh; unset is off, as in OSM's CRD.
    pub enable_permissive_traffic_policy_mode: bool,
    /// An external server that decides on inbound requests.
    pub inbound_external_authorization: Option<InboundExternalAuthorization>,
}

/// `spec.traffic.inboundExternalAuthorization`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundExternalAuthorization {
    /// Whether it is asked.
    pub enable: bool,
    /// Its host.
    pub address: String,
    /// Its port.
    pub port: i64,
    /// Prefix of its statistics.
    pub stat_prefix: String,
    /// How long to wait for it.
    pub timeout: String,
    /// Whether requests pass when it does not answer.
    pub failure_mode_allow: bool,
}

/// `spec.observability`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observability {
    /// Log level of the control plane.
    pub osm_log_level: String,
    /// Whether `/debug` is served.
    pub enable_debug_server: bool,
    /// Tracing of requests.
    pub tracing: Tracing,
}

/// `spec.observability.tracing`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Whether requests are traced.
    pub enable: bool,
    /// Port of the collector.
    pub port: i64,
    /// Host of the collector.
    pub address: String,
    /// Path of the collector.
    pub endpoint: String,
}

/// `spec.certificate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// How long a workload's certificate lasts.
    pub service_cert_validity_duration: String,
    /// Size of RSA keys; kept for old manifests, our keys are P-256.
    pub cert_key_bit_size: i64,
    /// A certificate for an ingress gateway.
    pub ingress_gateway: Option<IngressGateway>,
}

/// `spec.certificate.ingressGateway`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressGateway {
    /// Names of the certificate.
    pub subject_alt_names: Vec<String>,
    /// How long it lasts.
    pub validity_duration: String,
    /// The Secret that it is written to.
    pub secret: k8s::SecretReference,
}

/// `spec.featureFlags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureFlags {
    /// Statistics by source and destination.
    #[serde(rename = "enableWASMStats")]
    pub enable_wasm_stats: bool,
    /// Deprecated in OSM; no effect.
    #[serde(rename = "enableEgressPolicy")]
    pub enable_egress_policy: bool,
    /// Deprecated in OSM; no effect.
    #[serde(rename = "enableMulticlusterMode")]
    pub enable_multicluster_mode: bool,
    /// No effect in OSM.
    #[serde(rename = "enableSnapshotCacheMode")]
    pub enable_snapshot_cache_mode: bool,
    /// No effect in OSM.
    #[serde(rename = "enableAsyncProxyServiceMapping")]
    pub enable_async_proxy_service_mapping: bool,
    /// No effect in OSM; always on.
    #[serde(rename = "enableIngressBackendPolicy")]
    pub enable_ingress_backend_policy: bool,
    /// Proxies check the health of the services that they use.
    #[serde(rename = "enableEnvoyActiveHealthChecks")]
    pub enable_envoy_active_health_checks: bool,
    /// Retry objects count.
    #[serde(rename = "enableRetryPolicy")]
    pub enable_retry_policy: bool,
    /// MeshRootCertificate objects count.
    #[serde(rename = "enableMeshRootCertificate")]
    pub enable_mesh_root_certificate: bool,
}
