//! The admin server: health, metrics and version, on a port of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::{Liveness, Readiness, Version};

/// The content type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin server tells.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What is missing before work can be taken.
    pub readiness: Readiness,
    /// Whether the loops turn.
    pub liveness: Liveness,
    /// The metrics.
    pub registry: Arc<Registry>,
}

/// `/health/ready`, `/health/alive`, `/metrics` and `/version`. Merge routes of your own.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/health/ready", get(ready))
        .route("/health/alive", get(alive))
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { Json(Version::of_this_build()) }))
        .with_state(admin)
}

/// Serves until `stop` is cancelled; requests that are under way are finished.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    // An idle keep-alive connection must not hold up the end of the process.
    tokio::select! {
        served = serving => served.context("serving the admin port"),
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// How long requests under way may take after the stop.
const GRACE: Duration = Duration::from_secs(1);

async fn ready(State(admin): State<Admin>) -> Response {
    let pending = admin.readiness.list();
    if pending.is_empty() {
        return (StatusCode::OK, "Health OK\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "pending": pending }))).into_response()
}

async fn alive(State(admin): State<Admin>) -> Response {
    let stuck = admin.liveness.stuck(clock::monotonic());
    if stuck.is_empty() {
        return (StatusCode::OK, "Health OK\n").into_response();
    }
    let stuck: Vec<_> = stuck.iter().map(|(name, s)| json!({ "loop": name, "silentSeconds": s.as_secs() })).collect();
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "stuck": stuck }))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("writing the metrics: {error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    async fn get(admin: &Admin, path: &str) -> (u16, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let answer = router(admin.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    fn admin() -> Admin {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("osm_tests", "tests run", counter);
        Admin { readiness: Readiness::default(), liveness: Liveness::default(), registry: Arc::new(registry) }
    }

    #[tokio::test]
    async fn ready_names_what_is_pending() {
        let admin = admin();
        let pending = admin.readiness.pending("sources in sync");
        assert_eq!(get(&admin, "/health/ready").await, (503, r#"{"pending":["sources in sync"]}"#.to_owned()));
        drop(pending);
        assert_eq!(get(&admin, "/health/ready").await.0, 200);
    }

    #[tokio::test]
    async fn alive_names_the_loop_that_is_stuck() {
        let admin = admin();
        let _turning = admin.liveness.heartbeat("other", Duration::from_secs(60));
        assert_eq!(get(&admin, "/health/alive").await.0, 200);
        let _stuck = admin.liveness.heartbeat("control", Duration::ZERO);
        let stuck = (503, r#"{"stuck":[{"loop":"control","silentSeconds":0}]}"#.to_owned());
        assert_eq!(get(&admin, "/health/alive").await, stuck);
    }

    #[tokio::test]
    async fn metrics_and_version_have_the_names_that_scrapers_and_tools_know() {
        let (_, metrics) = get(&admin(), "/metrics").await;
        assert!(metrics.contains("osm_tests_total 1\n"), "{metrics}");
        let (_, version) = get(&admin(), "/version").await;
        assert_eq!(version, r#"{"version":"dev","git_commit":"unknown","build_date":"unknown"}"#);
    }
}
