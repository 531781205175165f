//! How the sidecar leaves: as the last one.
//!
//! Told to stop together with the application, it goes on as before until the peers have let go of the pod, which the
//! controller says over its stream; then it asks those that are still connected to go; then it waits for the
//! application, and for what is under way. A sidecar that is told after the application has ended has only the latter to
//! do. All of it ends before the pod's grace does.

use std::time::Duration;

use osm_ads::Notice;
use osm_runtime::clock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::app_sockets;
use crate::envoy_admin::EnvoyAdmin;

/// Nothing under way for this long means that the drain is over: an application that is shutting down itself must have
/// the time to open its last connections.
const QUIET: Duration = Duration::from_secs(1);

/// Between two looks at connections and sockets.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Left of the pod's grace for Envoy to end, and for the agent after it.
const RESERVE: Duration = Duration::from_secs(2);

/// How long each step may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarewellConfig {
    /// How long connections may take to end once the application has; zero leaves out the whole farewell.
    pub drain_limit: Duration,
    /// Whether the application is told to end when the sidecar is, so that the sidecar has to outlive it; else it has
    /// ended before.
    pub with_application: Option<WithApplication>,
}

/// What there is to wait for when the application ends at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithApplication {
    /// How long after SIGTERM everything in the pod is killed.
    pub grace: Duration,
    /// How long the peers may take to let go.
    pub withdrawal_limit: Duration,
    /// An application that has no socket open for this long has ended.
    pub without_sockets: Duration,
}

/// The steps.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// How long they may take.
    pub config: FarewellConfig,
    /// What the controller says about the pod.
    pub notice: watch::Receiver<Notice>,
    /// Envoy.
    pub admin: EnvoyAdmin,
}

impl Farewell {
    /// Returns when Envoy may be stopped. Cancel safe.
    pub async fn run(mut self) {
        let start = clock::monotonic();
        let FarewellConfig { drain_limit, with_application } = self.config.clone();
        if drain_limit.is_zero() {
            return;
        }
        let Some(limits) = with_application else {
            tracing::info!(limit_ms = drain_limit.as_millis(), "stopping: what is under way may end");
            self.ask_to_go().await;
            return self.until_quiet(start + drain_limit).await;
        };
        let end = start + limits.grace.saturating_sub(RESERVE);
        let withdrawn_by = end.min(start + limits.withdrawal_limit);
        tracing::info!("stopping: serving until the peers have let go");
        let is_withdrawn = timeout_at(withdrawn_by, told(&mut self.notice, |notice| notice.is_withdrawn)).await.is_ok();
        let waited_ms = start.elapsed().as_millis();
        tracing::info!(is_withdrawn, waited_ms, "stopping: inbound connections are asked to end");
        self.ask_to_go().await;
        let is_over = timeout_at(end, self.until_application_is_over(limits.without_sockets)).await.is_ok();
        tracing::info!(is_over, waited_ms = start.elapsed().as_millis(), "stopping: the application is gone");
        self.until_quiet(end.min(clock::monotonic() + drain_limit)).await;
    }

    async fn ask_to_go(&self) {
        if let Err(error) = self.admin.drain_inbound(LOOK_INTERVAL * 10).await {
            tracing::warn!(error = format!("{error:#}"), "Envoy could not be asked to drain");
        }
    }

    async fn until_application_is_over(&self, without_sockets: Duration) {
        let mut notice = self.notice.clone();
        let unseen = async {
            let (mut last_seen, mut connections) = (clock::monotonic(), 0);
            while last_seen.elapsed() < without_sockets {
                // One that was opened and closed between two looks is counted by Envoy.
                let counted = self.admin.connections_of_application(LOOK_INTERVAL * 10).await.unwrap_or(connections);
                let has_connected = std::mem::replace(&mut connections, counted) != counted;
                match app_sockets::count() {
                    Ok(0) if !has_connected => {}
                    Ok(_) => last_seen = clock::monotonic(),
                    Err(error) => {
                        tracing::warn!(%error, "the application's sockets cannot be seen; it has its whole grace");
                        std::future::pending::<()>().await;
                    }
                }
                sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = told(&mut notice, |notice| notice.is_application_over) => {}
            () = unseen => {}
        }
    }

    async fn until_quiet(&self, end: Instant) {
        let quiet = async {
            let mut last_busy = clock::monotonic();
            while last_busy.elapsed() < QUIET {
                let is_quiet = self.admin.activity(LOOK_INTERVAL * 10).await.is_ok_and(|busy| busy == 0);
                if !is_quiet {
                    last_busy = clock::monotonic();
                }
                sleep(LOOK_INTERVAL).await;
            }
        };
        // What is not over by then is cut off.
        let _ = timeout_at(end, quiet).await;
    }
}

/// Returns when the controller says so; never, if nobody can say anything any more.
pub async fn told(notice: &mut watch::Receiver<Notice>, what: impl FnMut(&Notice) -> bool) {
    if notice.wait_for(what).await.is_err() {
        std::future::pending::<()>().await;
    }
}
