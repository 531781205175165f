//! `/debug`: the value after each arrow, for people. On loopback alone, and only with the token from the state
//! directory. No value holds a key.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::{StatusCode, header};
use osm_api::Object;
use osm_model::{PodName, ProxyClass};
use osm_translate::to_json;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ads::Sessions;
use crate::control::Snapshot;
use crate::proxies::Proxies;
use crate::state_dir::StateDir;

/// The file with the token.
pub(crate) const TOKEN_FILE: &str = "debug-token";

const TOKEN_BYTES: usize = 32;

/// What `/debug` shows.
#[derive(Clone, Debug)]
pub(crate) struct Debugger {
    /// What was published last.
    pub(crate) proxies: Proxies,
    /// The sessions.
    pub(crate) sessions: Sessions,
}

/// The token that is kept in `state`, or a new one if there is none.
pub(crate) fn load_or_make_token(state: &StateDir) -> anyhow::Result<String> {
    if let Some(token) = state.read_secret(TOKEN_FILE)? {
        let token = String::from_utf8(token).context("the token of /debug is not text")?;
        let token = token.trim().to_owned();
        anyhow::ensure!(token.len() >= TOKEN_BYTES, "{} is too short; delete it", state.file(TOKEN_FILE).display());
        return Ok(token);
    }
    let token = make_token();
    state.write(TOKEN_FILE, token.as_bytes())?;
    Ok(token)
}

/// A new token, which nobody knows yet.
pub(crate) fn make_token() -> String {
    let bytes: [u8; TOKEN_BYTES] = osm_runtime::chance::generator().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The routes.
pub(crate) fn router(debugger: Debugger, token: String) -> Router {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/world", get(world))
        .route("/debug/mesh", get(mesh))
        .route("/debug/problems", get(problems))
        .route("/debug/view", get(view))
        .route("/debug/resources", get(resources))
        .route("/debug/sessions", get(sessions))
        .with_state(debugger)
        .layer(from_fn_with_state(Arc::new(token), require_token))
}

async fn require_token(State(token): State<Arc<String>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
    if !is_same(given.trim().as_bytes(), token.as_bytes()) {
        let error = format!("send `authorization: Bearer <token>` with the token in the file {TOKEN_FILE}");
        return fault(StatusCode::UNAUTHORIZED, error).into_response();
    }
    next.run(request).await
}

/// Takes the same time wherever the two differ, so that time tells nothing of the token.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let difference = given.iter().zip(expected).fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == expected.len() && difference == 0
}

async fn index() -> Json<Value> {
    let pod = "?pod=<namespace>/<name>";
    Json(json!({
        "/debug/world": "every object, as it was said",
        "/debug/mesh": "what the objects mean",
        "/debug/problems": "what is wrong with them",
        format!("/debug/view{pod}"): "all that the pod's class of proxies may know",
        format!("/debug/resources{pod}"): "the same in Envoy's words",
        "/debug/sessions": "who is connected, and what each has answered",
    }))
}

async fn world(State(debugger): State<Debugger>) -> Result<Json<Value>, Fault> {
    let world = debugger.snapshot()?.world;
    let objects = world.keys().into_iter().filter_map(|key| world.get(&key));
    Ok(Json(objects.map(|object: Object| object.to_manifest()).collect()))
}

async fn mesh(State(debugger): State<Debugger>) -> Result<Response, Fault> {
    Ok(Json(&*debugger.snapshot()?.mesh).into_response())
}

async fn problems(State(debugger): State<Debugger>) -> Result<Response, Fault> {
    /// A problem, and the sentence that the log and the command line show.
    #[derive(Serialize)]
    struct Shown<'a> {
        text: String,
        #[serde(flatten)]
        problem: &'a osm_api::Problem,
    }
    let problems = debugger.snapshot()?.problems;
    let shown: Vec<_> = problems.iter().map(|problem| Shown { text: problem.to_string(), problem }).collect();
    Ok(Json(shown).into_response())
}

#[derive(Debug, Deserialize)]
struct OfPod {
    pod: String,
}

async fn view(State(debugger): State<Debugger>, Query(of): Query<OfPod>) -> Result<Response, Fault> {
    let snapshot = debugger.snapshot()?;
    Ok(Json(snapshot.mesh.view(class(&snapshot, &of)?)).into_response())
}

async fn resources(State(debugger): State<Debugger>, Query(of): Query<OfPod>) -> Result<Json<Value>, Fault> {
    let snapshot = debugger.snapshot()?;
    let class = class(&snapshot, &of)?;
    let resources = snapshot
        .classes
        .get(class)
        .ok_or_else(|| fault(StatusCode::NOT_FOUND, "this pod's class was not translated; that is a fault of ours"))?;
    let json = to_json(resources);
    json.map(Json).map_err(|error| fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn sessions(State(debugger): State<Debugger>) -> Response {
    Json(debugger.sessions.list()).into_response()
}

fn class<'a>(snapshot: &'a Snapshot, of: &OfPod) -> Result<&'a ProxyClass, Fault> {
    let (namespace, name) =
        of.pod.split_once('/').ok_or_else(|| fault(StatusCode::BAD_REQUEST, "pod must be <namespace>/<name>"))?;
    let pod = PodName { namespace: namespace.to_owned(), name: name.to_owned() };
    let unknown = || fault(StatusCode::NOT_FOUND, format!("the mesh knows no pod {pod}; see /debug/problems"));
    snapshot.mesh.proxies.get(&pod).ok_or_else(unknown)
}

impl Debugger {
    fn snapshot(&self) -> Result<Snapshot, Fault> {
        let nothing = "nothing was published yet; see /health/ready for what is missing";
        self.proxies.snapshot().ok_or_else(|| fault(StatusCode::SERVICE_UNAVAILABLE, nothing))
    }
}

/// Why there is nothing to show.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    error: String,
}

fn fault(status: StatusCode, error: impl Into<String>) -> Fault {
    Fault { status, error: error.into() }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}
