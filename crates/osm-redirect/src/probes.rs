//! Probes, and hooks over HTTP, that the kubelet sends to the agent in place of the application.
//!
//! The kubelet calls from its node, without a certificate, so what it sends to the application's own port would end at
//! the proxy. Injection writes the original probe into the sidecar's environment; the agent carries it out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The environment variable of the sidecar that holds a list of [`ForwardedProbe`] as JSON.
pub const PROBES_VARIABLE: &str = "OSM_PROBES";

/// A probe or hook of the user, as the agent carries it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardedProbe {
    /// Whose it is.
    pub container: String,
    /// What it decides.
    pub kind: ProbeKind,
    /// How long an answer may take.
    pub timeout_seconds: u32,
    /// What is done.
    pub action: ProbeAction,
}

/// What a probe decides, or when a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// Whether the container is restarted.
    Liveness,
    /// Whether the pod gets traffic.
    Readiness,
    /// Whether the container has started.
    Startup,
    /// A hook: when the container has started.
    PostStart,
    /// A hook: before the container is told to end.
    PreStop,
}

/// What is done to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeAction {
    /// `GET`; 200 to 399 passes.
    Http(HttpProbe),
    /// A connection; that it comes about passes.
    Tcp {
        /// Where to.
        port: u16,
    },
    /// The health protocol of gRPC; SERVING passes.
    Grpc {
        /// Where to.
        port: u16,
        /// Which service is asked about; empty for the server.
        service: String,
    },
}

/// A request that is sent as a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Where to.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Whether over TLS; the certificate is not looked at, as the kubelet does not.
    pub is_tls: bool,
    /// Further headers, name and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl ProbeKind {
    /// Every kind.
    pub const ALL: [ProbeKind; 5] =
        [ProbeKind::Liveness, ProbeKind::Readiness, ProbeKind::Startup, ProbeKind::PostStart, ProbeKind::PreStop];

    /// The agent's port for it; for probes, as in OSM. The kernel's rules leave it alone.
    pub fn port(self) -> u16 {
        match self {
            ProbeKind::Liveness | ProbeKind::PreStop => 15901,
            ProbeKind::Readiness => 15902,
            ProbeKind::Startup | ProbeKind::PostStart => 15903,
        }
    }

    /// The agent's path for a container's probe, as in OSM, or for its hook.
    pub fn path(self, container: &str) -> String {
        match self {
            ProbeKind::Liveness | ProbeKind::Readiness | ProbeKind::Startup => format!("/osm-{self}-probe/{container}"),
            ProbeKind::PostStart | ProbeKind::PreStop => format!("/osm-{self}-hook/{container}"),
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Startup => "startup",
            ProbeKind::PostStart => "post-start",
            ProbeKind::PreStop => "pre-stop",
        })
    }
}

/// Reads what [`write_probes`] wrote; nothing for an empty text.
///
/// # Errors
/// When the text is not that.
pub fn read_probes(text: &str) -> Result<Vec<ForwardedProbe>, serde_json::Error> {
    if text.is_empty() { Ok(Vec::new()) } else { serde_json::from_str(text) }
}

/// The value of [`PROBES_VARIABLE`].
pub fn write_probes(probes: &[ForwardedProbe]) -> String {
    serde_json::to_string(probes).expect("texts, numbers and lists are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_share_a_place() {
        let places: std::collections::BTreeSet<_> = ProbeKind::ALL.map(|kind| (kind.port(), kind.path("a"))).into();
        assert_eq!(places.len(), ProbeKind::ALL.len());
        let bypass = crate::Redirect::default().bypass_inbound_ports;
        assert!(ProbeKind::ALL.iter().all(|kind| bypass.0.iter().any(|port| port.get() == kind.port())));
    }

    #[test]
    fn probes_survive_being_written_and_read_and_nothing_is_no_probe() {
        let headers = vec![("x".to_owned(), "y".to_owned())];
        let http = HttpProbe { port: 8080, path: "/a?b".to_owned(), is_tls: true, headers };
        let actions = [
            ProbeAction::Http(http),
            ProbeAction::Tcp { port: 1 },
            ProbeAction::Grpc { port: 2, service: String::new() },
        ];
        let probe =
            |action| ForwardedProbe { container: "a".to_owned(), kind: ProbeKind::Startup, timeout_seconds: 1, action };
        let probes: Vec<_> = actions.into_iter().map(probe).collect();
        assert_eq!(read_probes(&write_probes(&probes)).unwrap(), probes);
        assert_eq!(read_probes("").unwrap(), []);
        assert!(read_probes("{}").is_err());
    }
}
