//! What the agent serves over HTTP: readiness and start-up, the read-only part of Envoy's admin interface, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use jiff::Timestamp;
use osm_runtime::{admin, clock};
use osm_startup::{AgentReport, Missing};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::envoy_admin::EnvoyAdmin;
use crate::gate::{self, Configuration, Gate, Rejected, Term, Upstream};
use crate::last_good::whole_seconds;
use crate::memory;
use crate::observer::Status;
use crate::park::counts::{Counts, Standing};
use crate::probes::ProbeListeners;
use crate::quit::Quit;
use crate::timeline::{Timeline, UnixMs};

/// What of Envoy's admin interface every container of the pod may read. It holds no private key: Envoy leaves keys out
/// of its dump.
const READ_ONLY: [&str; 8] =
    ["/config_dump", "/clusters", "/stats", "/stats/prometheus", "/ready", "/server_info", "/listeners", "/certs"];

/// Dumps of a large mesh take seconds.
const ENVOY_LIMIT: Duration = Duration::from_secs(10);

/// The ports, bound by the caller, each on the address families of the pod.
#[derive(Debug)]
pub struct Listeners {
    /// Readiness and timeline, for the kubelet and for `osm`.
    pub status: Vec<TcpListener>,
    /// The read-only admin interface, on loopback.
    pub admin: Vec<TcpListener>,
    /// Metrics, for Prometheus.
    pub metrics: Vec<TcpListener>,
    /// Probes of the application, for the kubelet.
    pub probes: ProbeListeners,
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The gate and the timeline.
    pub status: watch::Receiver<Arc<Status>>,
    /// What the agent counts.
    pub counts: Arc<Counts>,
    /// Envoy's process.
    pub process: watch::Receiver<gate::Envoy>,
    /// Envoy's own pages.
    pub envoy: EnvoyAdmin,
}

/// The body of `503` while the gate is closed.
#[derive(Serialize)]
struct NotReady {
    missing: Vec<Missing>,
}

/// The body of the start-up page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Startup<'a> {
    #[serde(flatten)]
    timeline: &'a Timeline,
    is_programmed: bool,
    missing: Vec<Missing>,
    rejected: &'a [Rejected],
    last_good: Option<LastGoodStanding<'a>>,
    parked: Standing,
}

/// How the last good state stands; absent once the controller has spoken, and when there was none.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum LastGoodStanding<'a> {
    /// Envoy is programmed with it.
    InUse { confirmed: UnixMs, until: UnixMs, age_seconds: i64, controller: String },
    /// Its time is over.
    Ended { confirmed: UnixMs, until: UnixMs },
    /// It was there and must not be used.
    Unusable { why: &'a str },
}

/// Serves until `stop`; the probes of the application are served by [`crate::probes`].
pub async fn serve(listeners: Listeners, shown: Shown, quit: Quit, stop: CancellationToken) -> anyhow::Result<()> {
    let administered = read_only(shown.envoy.clone(), &READ_ONLY).merge(quitting(quit));
    tokio::try_join!(
        serve_all(listeners.status, status_pages(shown.clone()), stop.clone()),
        serve_all(listeners.admin, administered, stop.clone()),
        serve_all(listeners.metrics, metrics_page(shown), stop),
    )?;
    Ok(())
}

/// Serves the same on each listener until `stop`.
pub(crate) async fn serve_all(
    listeners: Vec<TcpListener>,
    router: Router,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let serving = listeners.into_iter().map(|listener| admin::serve(listener, router.clone(), stop.clone()));
    futures::future::try_join_all(serving).await?;
    Ok(())
}

fn status_pages(shown: Shown) -> Router {
    Router::new().route("/osm-sidecar/ready", get(ready)).route("/osm-sidecar/startup", get(startup)).with_state(shown)
}

/// Envoy's metrics and the agent's own; those alone while Envoy does not answer.
fn metrics_page(shown: Shown) -> Router {
    const PATH: &str = "/stats/prometheus";
    let page = async |State(shown): State<Shown>, uri: Uri| {
        let uri = uri.path_and_query().map_or(PATH, |uri| uri.as_str());
        let envoys = shown.envoy.get(uri, ENVOY_LIMIT).await.map(|answer| answer.into_body()).unwrap_or_default();
        let restarts = shown.status.borrow().timeline.envoy_restart_count;
        let own = shown.counts.to_prometheus(restarts) + &memory::to_prometheus(&shown.process.borrow());
        let text = String::from_utf8_lossy(&envoys).into_owned() + &own;
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=UTF-8")], text)
    };
    let others = read_only(shown.envoy.clone(), &[PATH]);
    Router::new().route(PATH, get(page)).with_state(shown).fallback_service(others)
}

async fn ready(State(shown): State<Shown>) -> Response {
    let status = shown.status.borrow().clone();
    if status.gate.is_open() {
        return (StatusCode::OK, programmed(&status.upstream, clock::now())).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(NotReady { missing: missing(&status.gate) })).into_response()
}

async fn startup(State(shown): State<Shown>) -> Response {
    let (status, parked) = (shown.status.borrow().clone(), shown.counts.standing());
    let Status { gate, timeline, rejected, upstream } = &*status;
    let last_good = last_good(upstream, clock::now());
    Json(Startup { timeline, is_programmed: gate.is_open(), missing: missing(gate), rejected, last_good, parked })
        .into_response()
}

/// The same as a report to the controller.
pub(crate) fn report(status: &Status) -> AgentReport {
    let Status { gate, timeline, .. } = status;
    let ms = |at: Option<UnixMs>| at.map(|UnixMs(ms)| ms);
    let acknowledged = timeline.acknowledged.iter().map(|(kind, UnixMs(at))| (kind.to_string(), *at));
    let restarts = timeline.envoy_restarts.iter().map(|restart| osm_startup::Restart {
        ended: restart.ended.0,
        reason: restart.reason.clone(),
        programmed: ms(restart.programmed),
    });
    AgentReport {
        agent_started: ms(timeline.agent_started),
        last_good_restored: ms(timeline.last_good_restored),
        identity_issued: ms(timeline.identity_issued),
        controller_connected: ms(timeline.controller_connected),
        first_resources: ms(timeline.first_resources),
        envoy_started: ms(timeline.envoy_started),
        acknowledged: acknowledged.collect(),
        programmed: ms(timeline.programmed),
        first_connection: ms(timeline.first_connection),
        envoy_restarts: restarts.collect(),
        is_programmed: gate.is_open(),
        missing: missing(gate),
    }
}

/// What is missing, in the words in which everybody is told.
pub(crate) fn missing(gate: &Gate) -> Vec<Missing> {
    gate.missing().iter().map(|missing| missing.said()).collect()
}

/// Whose word the pod follows: the usual case in one word.
fn programmed(upstream: &Upstream, now: Timestamp) -> String {
    match &upstream.configuration {
        Configuration::LastGood(Term { confirmed, until }) => format!(
            "programmed from the last good state, {} old (the controller confirmed it at {confirmed}), which may be used \
             until {until}; {}\n",
            whole_seconds(now.duration_since(*confirmed)),
            why_not_the_controller(upstream)
        ),
        Configuration::Told | Configuration::Absent { .. } | Configuration::Ended(_) => "programmed\n".to_owned(),
    }
}

fn last_good(upstream: &Upstream, now: Timestamp) -> Option<LastGoodStanding<'_>> {
    match &upstream.configuration {
        Configuration::LastGood(Term { confirmed, until }) => Some(LastGoodStanding::InUse {
            confirmed: UnixMs::from(*confirmed),
            until: UnixMs::from(*until),
            age_seconds: now.duration_since(*confirmed).as_secs(),
            controller: why_not_the_controller(upstream),
        }),
        Configuration::Ended(Term { confirmed, until }) => {
            Some(LastGoodStanding::Ended { confirmed: UnixMs::from(*confirmed), until: UnixMs::from(*until) })
        }
        Configuration::Absent { last_good_unusable: Some(why) } => Some(LastGoodStanding::Unusable { why }),
        Configuration::Absent { last_good_unusable: None } | Configuration::Told => None,
    }
}

fn why_not_the_controller(upstream: &Upstream) -> String {
    match &upstream.obstacle {
        Some(obstacle) => format!("the controller is not reached: {}", obstacle.what),
        None if upstream.is_connected => "connected to the controller, which has not answered yet".to_owned(),
        None => "the controller is not reached yet".to_owned(),
    }
}

/// Takes the order that ends the sidecar of a Job, as OSM's users send it to Envoy.
fn quitting(quit: Quit) -> Router {
    let answer = move || {
        let answer = match quit.order() {
            Ok(words) => (StatusCode::OK, words),
            Err(words) => (StatusCode::FORBIDDEN, words),
        };
        async move { answer }
    };
    let refuse = async || (StatusCode::FORBIDDEN, "only POST is carried out here\n");
    Router::new().route("/quitquitquit", axum::routing::post(answer).fallback(refuse))
}

/// Hands `GET` of these paths to Envoy and refuses everything else.
fn read_only(envoy: EnvoyAdmin, paths: &'static [&'static str]) -> Router {
    Router::new().fallback(move |method: Method, uri: Uri| {
        let envoy = envoy.clone();
        async move { pass_on(&envoy, paths, &method, &uri).await }
    })
}

async fn pass_on(envoy: &EnvoyAdmin, paths: &[&str], method: &Method, uri: &Uri) -> Response {
    if method != Method::GET || !paths.contains(&uri.path()) {
        let allowed = paths.join(", ");
        return (StatusCode::FORBIDDEN, format!("only GET of these is allowed here: {allowed}\n")).into_response();
    }
    let uri = uri.path_and_query().map_or("/", |uri| uri.as_str());
    match envoy.get(uri, ENVOY_LIMIT).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            let mut response = Response::builder().status(parts.status);
            if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
                response = response.header(header::CONTENT_TYPE, kind);
            }
            response.body(Body::from(body)).unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
        }
        Err(error) => {
            let text = format!("Envoy does not answer: {}\n", crate::controller::chain(&error));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn ask(router: Router, method: Method, uri: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let status = answer.status();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Beside an Envoy that does not answer.
    fn shown(status: Status) -> Shown {
        let (publish, status) = watch::channel(Arc::new(status));
        // What was said last stays readable.
        drop(publish);
        let process = watch::channel(gate::Envoy::Absent).1;
        Shown { status, counts: Arc::default(), process, envoy: EnvoyAdmin::new("/nowhere/admin.sock".into()) }
    }

    #[tokio::test]
    async fn nothing_that_changes_envoy_passes_whatever_the_method() {
        let envoy = EnvoyAdmin::new("/nowhere/admin.sock".into());
        for (method, uri) in [
            (Method::POST, "/quitquitquit"),
            (Method::GET, "/quitquitquit"),
            (Method::POST, "/stats"),
            (Method::GET, "/stats/recentlookups/clear"),
            (Method::GET, "//quitquitquit"),
            (Method::GET, "/stats/../quitquitquit"),
            (Method::GET, "/logging?level=trace"),
            (Method::GET, "/"),
        ] {
            let (status, _) = ask(read_only(envoy.clone(), &READ_ONLY), method.clone(), uri).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {uri}");
        }
        let (status, text) = ask(read_only(envoy.clone(), &READ_ONLY), Method::GET, "/stats?filter=a").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("Envoy does not answer: cannot connect"), "{text}");
        let metrics = metrics_page(shown(Status::default()));
        for (method, uri) in [(Method::GET, "/config_dump"), (Method::POST, "/quitquitquit")] {
            assert_eq!(ask(metrics.clone(), method, uri).await.0, StatusCode::FORBIDDEN, "{uri}");
        }
        assert_eq!(ask(metrics, Method::POST, "/stats/prometheus").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn the_agents_own_metrics_are_there_while_envoy_is_not() {
        let mut status = Status::default();
        status.timeline.envoy_restart_count = 2;
        let (status, text) = ask(metrics_page(shown(status)), Method::GET, "/stats/prometheus").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("osm_sidecar_envoy_restarts_total 2\n"), "{text}");
    }

    #[tokio::test]
    async fn a_closed_gate_says_what_is_missing() {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let status = crate::observer::Observer::new(now).status().clone();
        let shown = shown(status);
        let (code, text) = ask(status_pages(shown.clone()), Method::GET, "/osm-sidecar/ready").await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        let said = body["missing"].as_array().unwrap().iter().map(|item| {
            let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
            (text("reason"), text("owner"), text("what"), text("since"))
        });
        let row = |reason: &str, owner: &str, what: &str| {
            (reason.to_owned(), owner.to_owned(), what.to_owned(), "2030-03-17T17:46:40Z".to_owned())
        };
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                row(
                    "certificate-pending",
                    "osm-controller",
                    "the workload certificate is asked for and not issued yet"
                ),
                row("configuration-pending", "osm-controller", "no configuration: connecting to the controller"),
                row("envoy-pending", "sidecar", "Envoy is not started yet"),
            ]
        );
        let (code, text) = ask(status_pages(shown), Method::GET, "/osm-sidecar/startup").await;
        assert_eq!(code, StatusCode::OK);
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["agentStarted"], serde_json::json!(1_900_000_000_000_i64));
        assert_eq!(body["isProgrammed"], serde_json::json!(false));
        assert_eq!(body["parked"]["outbound"]["waiting"], serde_json::json!(0));
        // Whoever reads the page and whoever gets a report learn the same.
        let page: AgentReport = serde_json::from_value(body).unwrap();
        assert_eq!(page, report(&crate::observer::Observer::new(now).status().clone()));
    }
}
