//! Who may open a session, what it is told, and how it goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use osm_ads::{Host, Node, SessionEvent, Subscription};
use osm_runtime::clock;
use osm_xds::SessionStatus;
use serde::Serialize;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::caller::{RateLimit, Refusal, Verifier};
use crate::metrics::Metrics;
use crate::peers::{Answers, Notices};
use crate::proxies::{Proxies, Proxy};

/// Where the reason of a refusal is named, for the agent.
const REASON_HEADER: &str = "osm-reason";

/// Lets pods in by their tokens and tells them what their class is told.
#[derive(Debug)]
pub(crate) struct AdsHost {
    verifier: Arc<Verifier>,
    proxies: Proxies,
    sessions: Sessions,
    answers: Answers,
    notices: Notices,
    limit: RateLimit,
    metrics: Metrics,
}

/// The sessions that are open. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    next: Arc<AtomicU64>,
    open: Arc<Mutex<BTreeMap<u64, OpenSession>>>,
}

/// One session as `/debug/sessions` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenSession {
    /// The pod, as its token says.
    pub(crate) pod: String,
    /// The identity, as its token says.
    pub(crate) identity: String,
    /// The node, as the peer says.
    pub(crate) node: String,
    /// Since when it is open.
    pub(crate) since: Timestamp,
    /// Whether its pod is not known yet, so that nothing is sent.
    pub(crate) is_held: bool,
    /// Whether the peer has answered everything that there is to say to it.
    pub(crate) is_settled: bool,
    /// The state of each type.
    pub(crate) status: SessionStatus,
}

impl AdsHost {
    /// Lets in those whose token `verifier` believes.
    pub(crate) fn new(
        verifier: Arc<Verifier>,
        proxies: Proxies,
        sessions: Sessions,
        (answers, notices): (Answers, Notices),
        metrics: Metrics,
    ) -> AdsHost {
        // A sidecar has one stream, and comes back with growing delays when it loses that.
        let limit = RateLimit::new(30, Duration::from_millis(500));
        AdsHost { verifier, proxies, sessions, answers, notices, limit, metrics }
    }

    async fn admit(&self, metadata: &MetadataMap) -> Result<Proxy, Refusal> {
        let caller = self.verifier.authenticate(metadata.as_ref()).await?;
        self.limit.admit(&caller, clock::monotonic())?;
        Ok(caller)
    }
}

impl Host for AdsHost {
    async fn open(&self, metadata: &MetadataMap, node: &Node) -> Result<Subscription, Status> {
        let caller = self.admit(metadata).await.map_err(|refusal| {
            tracing::warn!(node = node.id, error = %refusal, "no session");
            self.metrics.count_refusal(refusal.label());
            status(&refusal)
        })?;
        let resources = self.proxies.follow(&caller);
        let is_held = resources.borrow().is_none();
        tracing::info!(pod = %caller.pod, identity = %caller.identity, is_held, "session open");
        self.metrics.proxy_connect_count.inc();
        let (sessions, metrics) = (self.sessions.clone(), self.metrics.clone());
        let id = sessions.insert(&caller, node, is_held);
        let (answers, notices) = (self.answers.clone(), Some(self.notices.follow(&caller.pod)));
        answers.opened(id, caller.clone());
        let report = move |event| match event {
            SessionEvent::Accepted { ty } => tracing::debug!(pod = %caller.pod, %ty, "accepted"),
            SessionEvent::Rejected { ty, names, message } => {
                metrics.count_rejection(ty);
                tracing::error!(pod = %caller.pod, %ty, ?names, message, "a proxy rejects its configuration");
            }
            SessionEvent::Answered(resources) => answers.answered(id, resources),
            SessionEvent::Status(status) => sessions.update(id, status),
            SessionEvent::Closed => {
                sessions.remove(id);
                answers.closed(id);
                metrics.proxy_connect_count.dec();
                tracing::info!(pod = %caller.pod, "session closed");
            }
        };
        Ok(Subscription { resources, notices, report: Box::new(report) })
    }
}

fn status(refusal: &Refusal) -> Status {
    let mut status = plain_status(refusal);
    status.metadata_mut().insert(REASON_HEADER, MetadataValue::from_static(refusal.reason().code()));
    status
}

fn plain_status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::NoToken | Refusal::Token(_) | Refusal::Review(_) => Status::unauthenticated(refusal.to_string()),
        Refusal::Pod { .. } => Status::permission_denied(refusal.to_string()),
        Refusal::Unavailable(_) => Status::unavailable(refusal.to_string()),
        Refusal::TooOften(_) => Status::resource_exhausted(refusal.to_string()),
    }
}

impl Sessions {
    /// The sessions that are open, oldest first.
    pub(crate) fn list(&self) -> Vec<OpenSession> {
        self.lock().values().cloned().collect()
    }

    fn insert(&self, caller: &Proxy, node: &Node, is_held: bool) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let session = OpenSession {
            pod: caller.pod.to_string(),
            identity: caller.identity.to_string(),
            node: node.id.clone(),
            since: clock::now(),
            is_held,
            is_settled: false,
            status: SessionStatus::default(),
        };
        self.lock().insert(id, session);
        id
    }

    fn update(&self, id: u64, status: SessionStatus) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.is_held = false;
            session.is_settled = status.is_settled();
            session.status = status;
        }
    }

    fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, OpenSession>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
