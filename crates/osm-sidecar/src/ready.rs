//! Asks the agent of this pod whether it is programmed, for the probe that holds the application back. What is said here
//! is in the pod's events.

use std::net::SocketAddr;

use http::StatusCode;
use osm_runtime::http::{Limits, get_tcp};
use osm_startup::Missing;
use serde::Deserialize;

/// What is missing does not take more.
const BODY_BYTES: usize = 1 << 20;

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is programmed, in the agent's words.
    Programmed(String),
    /// It is not, and why.
    Waits(String),
}

#[derive(Deserialize)]
struct NotReady {
    missing: Vec<Missing>,
}

/// Asks once.
pub async fn ask(agent: SocketAddr) -> Answer {
    let limits = Limits { body_bytes: BODY_BYTES, ..Limits::default() };
    match get_tcp(agent, "/osm-sidecar/ready", limits).await {
        Ok(answer) => read(answer.status(), answer.body()),
        Err(error) => Answer::Waits(format!("the agent does not answer yet: {error}")),
    }
}

fn read(status: StatusCode, body: &[u8]) -> Answer {
    let text = || String::from_utf8_lossy(body).trim().to_owned();
    if status.is_success() {
        return Answer::Programmed(text());
    }
    let Ok(NotReady { missing }) = serde_json::from_slice(body) else {
        return Answer::Waits(format!("the agent answers {status}: {}", text()));
    };
    let line = |Missing { what, owner, since, .. }: Missing| format!("{what} ({owner}, since {since})");
    Answer::Waits(missing.into_iter().map(line).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_is_told_in_one_line() {
        let body = r#"{"missing": [{"what": "a", "owner": "envoy", "since": "2030-03-17T17:46:40Z"},
                                    {"what": "b", "owner": "osm-controller", "since": "2030-03-17T17:46:41Z"}]}"#;
        let said = "a (envoy, since 2030-03-17T17:46:40Z); b (osm-controller, since 2030-03-17T17:46:41Z)";
        assert_eq!(read(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes()), Answer::Waits(said.into()));
        assert_eq!(read(StatusCode::OK, b"programmed\n"), Answer::Programmed("programmed".into()));
        let odd = Answer::Waits("the agent answers 404 Not Found: no such page".into());
        assert_eq!(read(StatusCode::NOT_FOUND, b"no such page"), odd);
    }
}
