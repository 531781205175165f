//! The two paths, and what every question has in common: limits, form, count.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use http::{StatusCode, header};
use osm_api::Kind;
use osm_runtime::clock;

use super::Webhooks;
use super::metrics::Outcome;
use super::review::{self, Answer, Request};

/// More than an API server's largest object, twice over: old and new may be in one question.
const BODY_BYTES_LIMIT: usize = 8 << 20;

/// The body must have come by then.
const BODY_LIMIT: Duration = Duration::from_secs(5);

/// The answer must be there by then; the API server gives up after ten seconds and tells its user nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Asked before a pod is made; the path is OSM's.
const MUTATE: &str = "/mutate-pod-creation";

/// Asked before a policy is kept; the path is OSM's.
const VALIDATE: &str = "/validate";

/// The routes.
pub(super) fn router(webhooks: Arc<Webhooks>) -> Router {
    let mutate = async |State(webhooks): State<Arc<Webhooks>>, request: axum::extract::Request| {
        let decide = |request| webhooks.clone().mutate(request);
        respond(&webhooks, "mutating", request, decide).await
    };
    let validate = async |State(webhooks): State<Arc<Webhooks>>, request: axum::extract::Request| {
        let decide = |request| webhooks.clone().validate(request);
        respond(&webhooks, "validating", request, decide).await
    };
    Router::new()
        .route(MUTATE, post(mutate))
        .route(VALIDATE, post(validate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_LIMIT))
        .with_state(webhooks)
}

async fn respond<D, A>(
    webhooks: &Webhooks,
    webhook: &'static str,
    request: axum::extract::Request,
    decide: D,
) -> Response
where
    D: FnOnce(Request) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    let start = clock::monotonic();
    let count = |kind, outcome| webhooks.metrics.count(webhook, kind, outcome, start.elapsed());
    let asked = match read(request).await {
        Ok(asked) => asked,
        Err((status, words)) => {
            tracing::warn!(webhook, words, "a question that is none");
            count("none", Outcome::Malformed);
            return (status, format!("{words}\n")).into_response();
        }
    };
    let (uid, kind) = (asked.uid.clone(), known_kind(&asked.kind.kind));
    let subject = format!("{} {}/{}", asked.kind, asked.namespace, asked.name);
    // On a task of its own, so that a fault of ours ends this question alone and not the connection.
    let deciding = tokio::spawn(tokio::time::timeout(ANSWER_LIMIT, decide(asked)));
    let answer = match deciding.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Answer::refused(
            503,
            format!("osm-controller did not come to a decision within {ANSWER_LIMIT:?}; try again"),
        ),
        Err(error) => {
            tracing::error!(%error, subject, "a question ended by a fault of ours");
            Answer::refused(500, "osm-controller could not decide by a fault of its own; its log says more")
        }
    };
    let outcome = outcome(&answer);
    if let Some(refusal) = &answer.refusal {
        tracing::info!(webhook, subject, code = refusal.code, message = refusal.message, "refused");
    }
    count(kind, outcome);
    Json(answer.to_review(&uid)).into_response()
}

async fn read(request: axum::extract::Request) -> Result<Request, (StatusCode, String)> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{kind:?} is not read here; send application/json")));
    }
    let body = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, &())).await;
    let body =
        body.map_err(|_| (StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_LIMIT:?}")))?;
    let body = body.map_err(|rejection| (rejection.status(), rejection.body_text()))?;
    review::read(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn outcome(answer: &Answer) -> Outcome {
    match &answer.refusal {
        Some(refusal) if refusal.code >= 500 => Outcome::Unable,
        Some(_) => Outcome::Refused,
        None if answer.patch.is_some() => Outcome::Patched,
        None => Outcome::Allowed,
    }
}

/// Metrics take no word from outside.
fn known_kind(kind: &str) -> &'static str {
    Kind::ALL.into_iter().map(Kind::name).find(|known| *known == kind).unwrap_or("other")
}
