//! Labels, annotations and well-known names, as OSM's users write them, and ours beside them.

/// Label on a Namespace: the mesh that the namespace belongs to.
pub const MONITORED_BY: &str = "openservicemesh.io/monitored-by";
/// Label on a Namespace: never inject here, whatever else is said.
pub const IGNORE: &str = "openservicemesh.io/ignore";
/// Annotation on a Namespace or Pod: `enabled`, `yes`, `true`, `disabled`, `no`, `false`.
pub const SIDECAR_INJECTION: &str = "openservicemesh.io/sidecar-injection";
/// Annotation on a Namespace: pods created there are scraped by Prometheus.
pub const METRICS: &str = "openservicemesh.io/metrics";
/// Annotation on a Pod: outbound TCP ports that are not redirected.
pub const OUTBOUND_PORT_EXCLUSION_LIST: &str = "openservicemesh.io/outbound-port-exclusion-list";
/// Annotation on a Pod: inbound TCP ports that are not redirected.
pub const INBOUND_PORT_EXCLUSION_LIST: &str = "openservicemesh.io/inbound-port-exclusion-list";
/// Annotation on a Pod: destination ranges that are not redirected.
pub const OUTBOUND_IP_RANGE_EXCLUSION_LIST: &str = "openservicemesh.io/outbound-ip-range-exclusion-list";
/// Annotation on a Pod: only these destination ranges are redirected.
pub const OUTBOUND_IP_RANGE_INCLUSION_LIST: &str = "openservicemesh.io/outbound-ip-range-inclusion-list";
/// Label that injection puts on a Pod; OSM's tools look for it.
pub const PROXY_UUID: &str = "osm-proxy-uuid";
/// Annotation on a Pod, ours: the start-up shape asked for, `init` or `native`.
pub const STARTUP: &str = "openservicemesh.io/startup";
/// Annotation on a Pod, ours: where connections wait that come before the proxy is ready; `kernel`, the default, or
/// `none`, which has them refused.
pub const HOLD: &str = "openservicemesh.io/hold";
/// Annotation that injection puts on a Pod, ours: the shape chosen and why.
pub const INJECTED: &str = "openservicemesh.io/injected";

/// Annotation on a Pod, ours: `none` leaves out the readiness gate that waits for the pod's peers.
pub const READINESS_GATE: &str = "openservicemesh.io/readiness-gate";
/// Condition of a Pod and its readiness gate, ours: the proxies of its peers have acknowledged that it is an endpoint.
pub const PEERS_READY: &str = "openservicemesh.io/PeersReady";
/// Every condition of a Pod that the controller writes begins with this.
pub const CONDITION_PREFIX: &str = "openservicemesh.io/";

/// Name of the container that holds agent and Envoy; OSM's users type it (`kubectl logs -c envoy`).
pub const SIDECAR_CONTAINER: &str = "envoy";
/// Name of the init container that installs redirection and hold.
pub const INIT_CONTAINER: &str = "osm-init";

/// Namespaces that never belong to a mesh, beside the control plane's own.
pub const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "kube-public"];

/// Whether `name` is a DNS-1123 label (RFC 1123): what Kubernetes allows for a namespace.
pub fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether `name` is a DNS-1123 subdomain: what Kubernetes allows for most object names.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}
