//! What holds for every proxy of the mesh.

use serde::Serialize;

use crate::TrustDomain;

/// Settings that every view carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Settings {
    /// The suffix of every identity.
    pub trust_domain: TrustDomain,
    /// The domain of service names, as `cluster.local`.
    pub cluster_domain: String,
    /// Who may reach whom.
    pub access: Access,
    /// Whether destinations outside the mesh may be reached.
    pub egress: bool,
    /// TLS between proxies.
    pub tls: TlsSettings,
}

/// Who may reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Permissive traffic policy mode: every pod of the mesh reaches every service of the mesh.
    Permissive,
    /// SMI traffic policy mode: only what a policy grants ([`crate::Grants`]). Without a policy: nobody reaches anybody.
    Granted,
}

/// TLS between proxies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TlsSettings {
    /// The lowest version spoken.
    pub min: TlsVersion,
    /// The highest version spoken.
    pub max: TlsVersion,
    /// Cipher suites by BoringSSL's names, TLS 1.2 and lower; Envoy's own when empty.
    pub cipher_suites: Vec<String>,
    /// Curves by BoringSSL's names; Envoy's own when empty.
    pub ecdh_curves: Vec<String>,
}

/// A version of TLS, by the names of MeshConfig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// Envoy's own choice.
    Auto,
    /// TLS 1.0
    V1_0,
    /// TLS 1.1
    V1_1,
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings { min: TlsVersion::V1_2, max: TlsVersion::V1_3, cipher_suites: Vec::new(), ecdh_curves: Vec::new() }
    }
}
