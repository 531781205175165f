//! What the test's API server answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// A longer body is none that a test sends.
const BODY_BYTES_LIMIT: usize = 1 << 20;

/// Answers one request.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, BODY_BYTES_LIMIT).await {
        Ok(body) => respond(&shared, &parts.method, &parts.uri, &body),
        Err(error) => failure(400, &error.to_string()),
    }
}

fn respond(shared: &Arc<Shared>, method: &Method, uri: &Uri, body: &[u8]) -> Response {
    let path = uri.path().to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    let mut store = shared.lock();
    store.note_request(format!("{method} {path}?{query}"));
    if let Some(code) = store.failure(&path) {
        return failure(code, &format!("{path} fails, as it was told to"));
    }
    if *method == Method::POST {
        let Ok(mut object) = serde_json::from_slice::<Value>(body) else { return failure(400, "not JSON") };
        if path.ends_with("/tokenreviews") {
            object["status"] = store.review(object["spec"]["token"].as_str().unwrap_or_default());
            return (StatusCode::CREATED, Json(object)).into_response();
        }
        if let Some(namespace) = path.rsplit('/').nth(1).filter(|_| path.contains("/namespaces/")) {
            object["metadata"]["namespace"] = namespace.into();
        }
        if !store.create(object.clone()) {
            return failure(409, "it exists already");
        }
        drop(store);
        shared.changed.send_replace(());
        return (StatusCode::CREATED, Json(object)).into_response();
    }
    if *method != Method::GET {
        return failure(405, "this server reads and creates");
    }
    if let Some(object) = store.get(&path)
        && parameter(&query, "limit").is_none()
        && parameter(&query, "watch").is_none()
    {
        return Json(object.clone()).into_response();
    }
    if parameter(&query, "limit").is_none() && parameter(&query, "watch").is_none() {
        return failure(404, &format!("nothing at {path}"));
    }
    drop(store);
    if parameter(&query, "watch") == Some("true") { watch(shared, path, &query) } else { list(shared, &path, &query) }
}

fn list(shared: &Shared, path: &str, query: &str) -> Response {
    let number = |name: &str| parameter(query, name).and_then(|text| text.parse().ok());
    let page = shared.lock().page(path, number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX / 2));
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some(next) = page.next {
        metadata["continue"] = next.to_string().into();
    }
    // As the real one does: the items of a list do not say their kind.
    let items: Vec<Value> = page.items.into_iter().map(without_type).collect();
    Json(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items })).into_response()
}

fn without_type(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// One watch that is open.
struct Watching {
    shared: Arc<Shared>,
    path: String,
    version: u64,
    lines: VecDeque<Value>,
    changed: watch::Receiver<()>,
    cut: CancellationToken,
    is_over: bool,
}

fn watch(shared: &Arc<Shared>, path: String, query: &str) -> Response {
    let version = parameter(query, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let seconds = parameter(query, "timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(60);
    let cut = shared.cut.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let changed = shared.changed.subscribe();
    let lines = VecDeque::new();
    let watching = Watching { shared: shared.clone(), path, version, lines, changed, cut, is_over: false };
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let lines = stream::unfold(watching, move |mut watching| async move {
        let line = tokio::time::timeout_at(end, watching.next()).await.ok()??;
        Some((Ok::<_, Infallible>(format!("{line}\n")), watching))
    });
    Body::from_stream(lines).into_response()
}

impl Watching {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            self.changed.borrow_and_update();
            let since = self.shared.lock().since(&self.path, self.version);
            match since {
                Some((lines, version)) => {
                    self.version = version;
                    if !lines.is_empty() {
                        self.lines.extend(lines);
                        continue;
                    }
                }
                None => {
                    self.is_over = true;
                    return Some(json!({ "type": "ERROR", "object": status(410, "too old resource version") }));
                }
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = self.cut.cancelled() => return None,
            }
        }
    }
}

fn failure(code: u16, message: &str) -> Response {
    let http = StatusCode::from_u16(code).expect("tests fail with codes of HTTP");
    (http, Json(status(code, message))).into_response()
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        403 => "Forbidden",
        _ => "InternalError",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
