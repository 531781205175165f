//! `POST /v1/certificate`: a pod's request in, its certificate out. The names are those of the pod's token.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use osm_model::TrustDomain;
use osm_pki::{Authority, CsrRequest, DEFAULT_LEAF_LIFETIME, IdentityError, IssueError, Leaf, WorkloadIdentity, issue};
use osm_runtime::clock;
use osm_startup::Reason;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::caller::{RateLimit, Refusal, Verifier};
use crate::metrics::Metrics;
use crate::proxies::Proxy;

/// Where certificates are asked for.
pub(crate) const PATH: &str = "/v1/certificate";

/// A request takes about 600 bytes; this leaves room for names that we do not read.
const BODY_BYTES_LIMIT: usize = 32 << 10;

/// A request that waits longer for its turn is told to come again: its sender would give up anyway.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// Certificates for pods.
#[derive(Debug)]
pub(crate) struct Certificates {
    authority: Arc<Authority>,
    verifier: Arc<Verifier>,
    trust_domain: TrustDomain,
    /// Signing is work for a processor, and there are only so many.
    turns: Semaphore,
    limit: RateLimit,
    metrics: Metrics,
}

/// What is asked.
#[derive(Debug, Deserialize)]
struct Question {
    csr: String,
}

/// What is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    certificate_chain: String,
    trust_bundle: String,
    not_after: String,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Caller(#[from] Refusal),
    #[error("no certificate for this identity: {0}")]
    Identity(#[from] IdentityError),
    #[error("the body is not JSON of the form {{\"csr\": PEM}}: {0}")]
    Body(#[from] serde_json::Error),
    #[error("too many certificates are being asked for; try again")]
    Busy,
    #[error("{0}")]
    Issue(#[from] IssueError),
    #[error("a fault of ours; the controller's log says more")]
    Ours(#[from] tokio::task::JoinError),
}

impl Certificates {
    /// `turns` certificates are signed at a time.
    pub(crate) fn new(
        authority: Arc<Authority>,
        verifier: Arc<Verifier>,
        trust_domain: TrustDomain,
        turns: usize,
        metrics: Metrics,
    ) -> Certificates {
        // A pod needs one certificate a day; twelve at once is a sidecar that restarts over and over.
        let limit = RateLimit::new(12, Duration::from_secs(5));
        Certificates { authority, verifier, trust_domain, turns: Semaphore::new(turns), limit, metrics }
    }

    /// The route.
    pub(crate) fn router(self) -> Router {
        let routes = Router::new().route(PATH, post(certificate)).layer(DefaultBodyLimit::max(BODY_BYTES_LIMIT));
        routes.with_state(Arc::new(self))
    }

    async fn sign(self: &Arc<Self>, headers: &HeaderMap, body: &[u8]) -> Result<(Proxy, Leaf), Fault> {
        let caller = self.verifier.authenticate(headers).await?;
        self.limit.admit(&caller, clock::monotonic())?;
        let question: Question = serde_json::from_slice(body)?;
        let names = &caller.identity;
        let identity = WorkloadIdentity::new(&self.trust_domain.0, &names.namespace, &names.service_account)?;
        let start = clock::monotonic();
        let turn = tokio::time::timeout(TURN_LIMIT, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| Fault::Busy)?.expect("the turns are never closed");
        let certificates = self.clone();
        let signing = move || {
            let request = CsrRequest { csr_pem: &question.csr, identity: &identity };
            issue(&certificates.authority, &request, DEFAULT_LEAF_LIFETIME, clock::now())
        };
        let leaf = tokio::task::spawn_blocking(signing).await??;
        self.metrics.cert_issued_count.inc();
        self.metrics.cert_issued_time.observe(start.elapsed().as_secs_f64());
        Ok((caller, leaf))
    }
}

async fn certificate(State(certificates): State<Arc<Certificates>>, headers: HeaderMap, body: Bytes) -> Response {
    match certificates.sign(&headers, &body).await {
        Ok((caller, leaf)) => {
            tracing::info!(pod = %caller.pod, identity = %caller.identity, until = %leaf.validity.not_after, "signed");
            let answer = Answer {
                certificate_chain: leaf.chain_pem,
                trust_bundle: certificates.authority.cert_pem().to_owned(),
                not_after: leaf.validity.not_after.to_string(),
            };
            Json(answer).into_response()
        }
        Err(fault) => {
            tracing::warn!(error = %fault, "no certificate");
            certificates.metrics.count_refusal(fault.label());
            fault.into_response()
        }
    }
}

impl Fault {
    fn label(&self) -> &'static str {
        match self {
            Fault::Caller(refusal) => refusal.label(),
            Fault::Identity(_) => "identity",
            Fault::Body(_) => "body",
            Fault::Busy => "busy",
            Fault::Issue(_) => "request",
            Fault::Ours(_) => "fault",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Fault::Caller(refusal) => refusal.status(),
            Fault::Identity(_) => StatusCode::FORBIDDEN,
            Fault::Body(_) | Fault::Issue(IssueError::Request(_)) => StatusCode::BAD_REQUEST,
            Fault::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Issue(_) | Fault::Ours(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let reason = match &self {
            Fault::Caller(refusal) => refusal.reason(),
            Fault::Busy => Reason::CertificatePending,
            Fault::Identity(_) | Fault::Body(_) | Fault::Issue(_) | Fault::Ours(_) => Reason::CertificateRefused,
        };
        let body = Json(serde_json::json!({ "error": self.to_string(), "reason": reason }));
        let mut response = (self.status(), body).into_response();
        let wait = match &self {
            Fault::Caller(Refusal::TooOften(wait)) => Some(wait.as_secs() + 1),
            Fault::Busy | Fault::Caller(Refusal::Unavailable(_)) => Some(1),
            Fault::Caller(_) | Fault::Identity(_) | Fault::Body(_) | Fault::Issue(_) | Fault::Ours(_) => None,
        };
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
