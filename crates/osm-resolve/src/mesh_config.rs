//! What is wrong in a MeshConfig beside what [`crate::settings`] takes from it: values that cannot be, and features
//! that this version does not carry out.

use ipnet::IpNet;
use osm_api::{MeshConfigSpec, ObjectKey, Reason};

use crate::report::{Finding, Report};

pub(crate) fn check(key: &ObjectKey, spec: &MeshConfigSpec, report: &mut Report<'_>) {
    let ports = [
        ("spec.traffic.outboundPortExclusionList", &spec.traffic.outbound_port_exclusion_list),
        ("spec.traffic.inboundPortExclusionList", &spec.traffic.inbound_port_exclusion_list),
    ];
    for (field, ports) in ports {
        for (index, port) in ports.iter().enumerate().filter(|(_, port)| !(1..=65535).contains(*port)) {
            report.add(
                key,
                Finding::new(format!("{field}[{index}]"), Reason::InvalidField, format!("{port} is not a port"))
                    .hint("use a number from 1 to 65535"),
            );
        }
    }
    let ranges = [
        ("spec.traffic.outboundIPRangeExclusionList", &spec.traffic.outbound_ip_range_exclusion_list),
        ("spec.traffic.outboundIPRangeInclusionList", &spec.traffic.outbound_ip_range_inclusion_list),
    ];
    for (field, ranges) in ranges {
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| range.parse::<IpNet>().is_err()) {
            report.add(
                key,
                Finding::new(
                    format!("{field}[{index}]"),
                    Reason::InvalidField,
                    format!("{range:?} is not an address range"),
                )
                .hint("write it as 10.0.0.0/8 or fd00::/8"),
            );
        }
    }
    let not_yet = "this version does not do it yet; it has no effect";
    for (field, is_set) in unsupported(spec) {
        if is_set {
            report.add(key, Finding::new(field, Reason::Unsupported, not_yet).hint("set it to false, or leave it out"));
        }
    }
    if !spec.sidecar.envoy_image.is_empty() && spec.sidecar.image.is_empty() {
        let message = "an image with Envoy alone does not hold the agent, so it is not used";
        report.add(
            key,
            Finding::new("spec.sidecar.envoyImage", Reason::Unsupported, message)
                .hint("name an image with agent and Envoy in spec.sidecar.image"),
        );
    }
}

/// Switches for what this version does not carry out. Those that had no effect in OSM either are not named.
fn unsupported(spec: &MeshConfigSpec) -> [(&'static str, bool); 6] {
    let flags = &spec.feature_flags;
    [
        ("spec.observability.tracing.enable", spec.observability.tracing.enable),
        ("spec.certificate.ingressGateway", spec.certificate.ingress_gateway.is_some()),
        ("spec.featureFlags.enableWASMStats", flags.enable_wasm_stats),
        ("spec.featureFlags.enableEnvoyActiveHealthChecks", flags.enable_envoy_active_health_checks),
        ("spec.featureFlags.enableRetryPolicy", flags.enable_retry_policy),
        ("spec.featureFlags.enableMeshRootCertificate", flags.enable_mesh_root_certificate),
    ]
}
