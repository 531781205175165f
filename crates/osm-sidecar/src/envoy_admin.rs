//! Envoy's administration interface, over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use osm_runtime::http::{self, Limits};

use crate::gate::Answer;
use crate::park::twins::PULSE_STATISTICS;

/// The numbers that the gate needs.
const GATE_STATS: &str = "/stats?filter=^(listener_manager\\.(workers_started|total_listeners_active|\
                          total_listeners_warming)|cluster_manager\\.warming_clusters|\
                          listener\\.[^/]*_15001\\.downstream_cx_total)$";

/// What listeners and HTTP connection managers have open.
const ACTIVITY_STATS: &str = "/stats?filter=^(listener|http)\\..*downstream_(cx|rq)_active$";

/// What the outbound listener has accepted, in Envoy's text.
const OUTBOUND_TOTAL: &str = "listener.0.0.0.0_15001.downstream_cx_total";
const OUTBOUND_STATS: &str = "/stats?filter=^listener\\.0\\.0\\.0\\.0_15001\\.downstream_cx_total$";

/// The socket.
#[derive(Clone, Debug)]
pub struct EnvoyAdmin {
    socket: PathBuf,
}

impl EnvoyAdmin {
    /// The interface behind this socket.
    pub fn new(socket: PathBuf) -> EnvoyAdmin {
        EnvoyAdmin { socket }
    }

    /// The raw answer to `GET`; `uri` is path and query.
    pub async fn get(&self, uri: &str, timeout: Duration) -> Result<::http::Response<Bytes>, http::Error> {
        http::get_unix(&self.socket, uri, Limits { timeout, ..Limits::default() }).await
    }

    /// What Envoy says about itself; `run` is the run that is asked.
    pub async fn answer(&self, run: u64, timeout: Duration) -> anyhow::Result<Answer> {
        let ready = self.get("/ready", timeout).await.context("asking Envoy whether it is ready")?;
        let state = String::from_utf8_lossy(ready.body()).trim().to_owned();
        let stats = self.get(GATE_STATS, timeout).await.context("asking Envoy for its listeners")?;
        ensure!(stats.status().is_success(), "Envoy answered {} to a request for statistics", stats.status());
        let text = String::from_utf8_lossy(stats.body());
        Ok(Answer {
            run,
            state,
            has_workers: number(&text, "listener_manager.workers_started") == 1,
            listeners_active: number(&text, "listener_manager.total_listeners_active"),
            listeners_warming: number(&text, "listener_manager.total_listeners_warming"),
            clusters_warming: number(&text, "cluster_manager.warming_clusters"),
            connections: connections(&text),
        })
    }

    /// Asks Envoy to let go of inbound connections: it says so to each, and goes on serving.
    pub async fn drain_inbound(&self, timeout: Duration) -> anyhow::Result<()> {
        let limits = Limits { timeout, ..Limits::default() };
        let uri = "/drain_listeners?inboundonly&graceful&skip_exit";
        let answer = http::post_unix(&self.socket, uri, Bytes::new(), limits).await.context("asking Envoy to drain")?;
        ensure!(answer.status().is_success(), "Envoy answered {} when asked to drain", answer.status());
        Ok(())
    }

    /// How many connections of the application have come so far.
    pub async fn connections_of_application(&self, timeout: Duration) -> anyhow::Result<u64> {
        let stats = self.get(OUTBOUND_STATS, timeout).await.context("asking Envoy for its connections")?;
        Ok(number(&String::from_utf8_lossy(stats.body()), OUTBOUND_TOTAL))
    }

    /// How much a stop would interrupt: HTTP requests, and connections of other protocols.
    pub async fn activity(&self, timeout: Duration) -> anyhow::Result<u64> {
        let stats = self.get(ACTIVITY_STATS, timeout).await.context("asking Envoy for its connections")?;
        Ok(activity(&String::from_utf8_lossy(stats.body())))
    }
}

/// The value of one statistic in Envoy's text, `name: value`; 0 if it is not there.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The connections that outbound listeners have taken, whatever address they are bound to.
fn connections(text: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with("listener."));
    lines.filter_map(|line| line.split_once("_15001.downstream_cx_total: ")?.1.trim().parse::<u64>().ok()).sum()
}

/// Requests, and connections that are not HTTP. An idle HTTP connection interrupts nobody when it is closed. Envoy
/// counts connections for each listener (and again for each worker), and those that are HTTP once more.
fn activity(text: &str) -> u64 {
    let (mut connections, mut http_connections, mut requests) = (0_u64, 0_u64, 0_u64);
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        let Ok(value) = value.trim().parse::<u64>() else { continue };
        let is_part =
            name.contains(".worker_") || name.starts_with("listener.admin.") || name.starts_with("http.admin.");
        let is_ours = name.starts_with("listener.") && name.contains(PULSE_STATISTICS);
        match name.split_once('.') {
            _ if is_part || is_ours => {}
            Some(("listener", rest)) if rest.ends_with(".downstream_cx_active") => connections += value,
            Some(("http", rest)) if rest.ends_with(".downstream_cx_active") => http_connections += value,
            Some(("http", rest)) if rest.ends_with(".downstream_rq_active") => requests += value,
            Some(_) | None => {}
        }
    }
    connections.saturating_sub(http_connections) + requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let text = "listener_manager.total_listeners_active: 2\nlistener_manager.workers_started: 1\n";
        assert_eq!(number(text, "listener_manager.total_listeners_active"), 2);
        assert_eq!(number(text, "listener_manager.total_listeners"), 0);
        assert_eq!(number(text, "cluster_manager.warming_clusters"), 0);
    }

    #[test]
    fn connections_are_those_of_every_outbound_listener() {
        let text = "cluster_manager.warming_clusters: 7\n\
                    listener.0.0.0.0_15001.downstream_cx_total: 2\n\
                    listener.[__]_15001.downstream_cx_total: 3\n";
        assert_eq!(connections(text), 5);
    }

    #[test]
    fn requests_count_and_connections_that_are_not_http_and_nothing_of_the_admin_socket() {
        let text = "http.admin.downstream_cx_active: 1\n\
                    http.admin.downstream_rq_active: 1\n\
                    http.outbound.80.downstream_cx_active: 2\n\
                    http.outbound.80.downstream_rq_active: 5\n\
                    listener.0.0.0.0_15001.downstream_cx_active: 3\n\
                    listener.0.0.0.0_15001.worker_0.downstream_cx_active: 2\n\
                    listener.0.0.0.0_15001.worker_1.downstream_cx_active: 1\n\
                    listener.0.0.0.0_15003.downstream_cx_active: 4\n\
                    listener.agent_pulse.downstream_cx_active: 2\n\
                    listener.admin.downstream_cx_active: 1\n";
        assert_eq!(activity(text), 3 + 4 - 2 + 5);
        assert_eq!(activity(""), 0);
    }
}
