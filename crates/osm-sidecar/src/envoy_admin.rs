//! Envoy's administration interface, over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use osm_runtime::http::{self, Limits};

use crate::gate::Answer;

/// The numbers that the gate needs.
const GATE_STATS: &str = "/stats?filter=^(listener_manager\\.(workers_started|total_listeners_active|\
                          total_listeners_warming)|cluster_manager\\.warming_clusters)$";

/// The connections that are open on listeners.
const CONNECTION_STATS: &str = "/stats?filter=^listener\\..*downstream_cx_active$";

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

    /// How many connections are open on Envoy's listeners.
    pub async fn open_connections(&self, timeout: Duration) -> anyhow::Result<u64> {
        let stats = self.get(CONNECTION_STATS, timeout).await.context("asking Envoy for its connections")?;
        Ok(connections(&String::from_utf8_lossy(stats.body())))
    }
}

/// The value of one statistic in Envoy's text, `name: value`; 0 if it is not there.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The sum of `listener.<address>.downstream_cx_active`, without Envoy's own admin listener and without the parts of
/// single workers.
fn connections(text: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let of_listeners = lines.filter(|(name, _)| {
        !name.starts_with("listener.admin.") && !name.contains(".worker_") && name.ends_with(".downstream_cx_active")
    });
    of_listeners.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
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
    fn connections_of_listeners_count_once_and_those_of_the_admin_socket_not_at_all() {
        let text = "listener.0.0.0.0_15001.downstream_cx_active: 3\n\
                    listener.0.0.0.0_15001.worker_0.downstream_cx_active: 2\n\
                    listener.0.0.0.0_15001.worker_1.downstream_cx_active: 1\n\
                    listener.0.0.0.0_15003.downstream_cx_active: 4\n\
                    listener.admin.downstream_cx_active: 1\n";
        assert_eq!(connections(text), 7);
    }
}
