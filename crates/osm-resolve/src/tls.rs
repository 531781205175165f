//! TLS between proxies, from `MeshConfig.spec.sidecar`. A word that Envoy does not know would make it refuse every
//! cluster, so unknown words are left out here.

use osm_api::{ObjectKey, Reason, Sidecar};
use osm_model::{TlsSettings, TlsVersion};

use crate::report::{Finding, Report};

/// Cipher suites of TLS 1.2 and lower that Envoy's BoringSSL knows.
const CIPHER_SUITES: [&str; 14] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Curves that Envoy's BoringSSL knows.
const ECDH_CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"];

pub(crate) fn read(key: &ObjectKey, sidecar: &Sidecar, report: &mut Report<'_>) -> TlsSettings {
    let defaults = TlsSettings::default();
    let mut version = |field: &str, written: &str, default: TlsVersion| match parse(written) {
        Some(version) => version,
        None if written.is_empty() => default,
        None => {
            let message = format!("{written:?} is not a version; {} is used", name(default));
            let hint = "use TLS_AUTO, TLSv1_0, TLSv1_1, TLSv1_2 or TLSv1_3";
            report.add(key, Finding::new(field, Reason::InvalidField, message).hint(hint));
            default
        }
    };
    let min = version("spec.sidecar.tlsMinProtocolVersion", &sidecar.tls_min_protocol_version, defaults.min);
    let mut max = version("spec.sidecar.tlsMaxProtocolVersion", &sidecar.tls_max_protocol_version, defaults.max);
    if max != TlsVersion::Auto && max < min {
        let message = format!("lower than tlsMinProtocolVersion; {} is used for both", name(min));
        report.add(
            key,
            Finding::new("spec.sidecar.tlsMaxProtocolVersion", Reason::Conflict, message)
                .hint("set it to the same version or a higher one"),
        );
        max = min;
    }
    if max == TlsVersion::Auto && min == TlsVersion::V1_3 {
        // Envoy's own highest version for clients is 1.2, which would leave none.
        max = TlsVersion::V1_3;
    }
    let cipher_suites = known(key, "spec.sidecar.cipherSuites", &sidecar.cipher_suites, &CIPHER_SUITES, report);
    let ecdh_curves = known(key, "spec.sidecar.ecdhCurves", &sidecar.ecdh_curves, &ECDH_CURVES, report);
    TlsSettings { min, max, cipher_suites, ecdh_curves }
}

fn parse(written: &str) -> Option<TlsVersion> {
    match written {
        "TLS_AUTO" => Some(TlsVersion::Auto),
        "TLSv1_0" => Some(TlsVersion::V1_0),
        "TLSv1_1" => Some(TlsVersion::V1_1),
        "TLSv1_2" => Some(TlsVersion::V1_2),
        "TLSv1_3" => Some(TlsVersion::V1_3),
        _ => None,
    }
}

fn name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Auto => "TLS_AUTO",
        TlsVersion::V1_0 => "TLSv1_0",
        TlsVersion::V1_1 => "TLSv1_1",
        TlsVersion::V1_2 => "TLSv1_2",
        TlsVersion::V1_3 => "TLSv1_3",
    }
}

fn known(key: &ObjectKey, field: &str, written: &[String], known: &[&str], report: &mut Report<'_>) -> Vec<String> {
    let mut kept = Vec::new();
    for (index, word) in written.iter().enumerate() {
        if known.contains(&word.as_str()) {
            kept.push(word.clone());
            continue;
        }
        report.add(
            key,
            Finding::new(format!("{field}[{index}]"), Reason::InvalidField, format!("{word:?} is not known; left out"))
                .hint(format!("use some of: {}", known.join(", "))),
        );
    }
    kept
}
