//! One stream: feeds its session with requests and resources, and sends what the session answers.
//!
//! There is no task of its own: the stream of responses is polled by the connection, and with it the session. A client
//! that does not read is not read from, and when the client goes, all of this is dropped.

use std::{collections::VecDeque, sync::Arc};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures::Stream;
use osm_xds::{Rejection, ResourceType, Resources, Session, SessionStatus};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Limits, Report, SessionEvent, Subscription};
use crate::notice::Notice;
use crate::wire;

/// The state of one stream.
pub(super) struct SessionStream {
    resources: watch::Receiver<Option<Arc<Resources>>>,
    notices: Option<watch::Receiver<Notice>>,
    state: State,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    reporter: Reporter,
    limits: Limits,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

enum State {
    /// Nothing is known for this client yet. Its first request waits here, the others in the connection.
    Held(Box<DeltaDiscoveryRequest>),
    Open(Box<Session>),
}

/// Tells the host what has changed, and that it is over.
struct Reporter {
    report: Report,
    last: SessionStatus,
    answered: Option<Arc<Resources>>,
}

impl SessionStream {
    pub(super) fn new(
        subscription: Subscription,
        first: DeltaDiscoveryRequest,
        requests: Streaming<DeltaDiscoveryRequest>,
        limits: Limits,
        shutdown: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut resources = subscription.resources;
        // What is there already counts as a change too.
        resources.mark_changed();
        let mut notices = subscription.notices;
        notices.iter_mut().for_each(watch::Receiver::mark_changed);
        Self {
            resources,
            notices,
            state: State::Held(Box::new(first)),
            requests,
            responses: VecDeque::new(),
            reporter: Reporter { report: subscription.report, last: SessionStatus::default(), answered: None },
            limits,
            shutdown,
            _permit: permit,
        }
    }

    /// All responses until one side ends the stream.
    pub(super) fn responses(self) -> impl Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send {
        futures::stream::unfold(Some(self), |stream| async {
            let mut stream = stream?;
            match stream.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(stream))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            if let Some(response) = self.responses.pop_front() {
                return Ok(Some(response));
            }
            let is_open = matches!(self.state, State::Open(_));
            // All are cancel safe: a message is taken whole or not at all.
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(Status::unavailable("shutting down")),
                changed = self.resources.changed() => {
                    changed.map_err(|_| Status::unavailable("no longer served here; connect again"))?;
                    self.on_resources()?;
                }
                notice = next_notice(&mut self.notices), if is_open => self.responses.push_back(notice.to_wire()),
                request = self.requests.message(), if is_open => match request? {
                    Some(request) => self.on_request(request)?,
                    None => return Ok(None),
                }
            }
        }
    }

    fn on_resources(&mut self) -> Result<(), Status> {
        let Some(resources) = self.resources.borrow_and_update().clone() else {
            return Ok(());
        };
        match &mut self.state {
            State::Open(session) => {
                let responses = session.on_resources(resources);
                self.send(responses);
                Ok(())
            }
            State::Held(first) => {
                let first = std::mem::take(first.as_mut());
                self.state = State::Open(Box::new(Session::new(resources)));
                self.on_request(first)
            }
        }
    }

    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let State::Open(session) = &mut self.state else { return Ok(()) };
        let type_url = request.type_url.clone();
        let Some(request) = wire::request_from(request) else {
            tracing::debug!(type_url, "a client asks for a type that the mesh does not use");
            return Ok(());
        };
        let responses = session.on_request(request);
        let (names, names_max) = (session.subscribed_names(), self.limits.names_max);
        if names > names_max {
            return Err(Status::resource_exhausted(format!(
                "{names} names subscribed, at most {names_max} are served"
            )));
        }
        self.send(responses);
        Ok(())
    }

    fn send(&mut self, responses: Vec<osm_xds::Response>) {
        let State::Open(session) = &self.state else { return };
        self.reporter.report(session.status());
        self.reporter.report_answered(session.answered_load_assignments());
        for response in responses {
            tracing::debug!(
                ty = %response.ty,
                nonce = response.nonce,
                resources = response.resources.len(),
                removed = response.removed.len(),
                "push"
            );
            self.responses.push_back(wire::response_to(response, session.resources()));
        }
    }
}

/// The next word for the client about itself; never, if nobody has one.
async fn next_notice(notices: &mut Option<watch::Receiver<Notice>>) -> Notice {
    if let Some(notices) = notices
        && notices.changed().await.is_ok()
    {
        return *notices.borrow_and_update();
    }
    std::future::pending().await
}

impl Reporter {
    fn report_answered(&mut self, answered: Option<&Arc<Resources>>) {
        let is_new = match (&self.answered, answered) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(last), Some(now)) => !Arc::ptr_eq(last, now),
        };
        if let Some(answered) = answered.filter(|_| is_new) {
            self.answered = Some(answered.clone());
            (self.report)(SessionEvent::Answered(answered.clone()));
        }
    }

    fn report(&mut self, status: SessionStatus) {
        for ty in ResourceType::ALL {
            let (before, after) = (self.last.of(ty), status.of(ty));
            if after.accepted > before.accepted {
                (self.report)(SessionEvent::Accepted { ty });
            }
            if after.refused > before.refused {
                // Those rejected earlier have been reported; the same again is told if nothing else is new.
                let is_new = |rejection: &&Rejection| !before.rejected.contains(rejection);
                let new: Vec<&Rejection> = after.rejected.iter().filter(is_new).collect();
                for rejection in if new.is_empty() { after.rejected.iter().collect() } else { new } {
                    let Rejection { names, message } = rejection.clone();
                    (self.report)(SessionEvent::Rejected { ty, names, message });
                }
            }
        }
        if status != self.last {
            self.last = status.clone();
            (self.report)(SessionEvent::Status(status));
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        (self.report)(SessionEvent::Closed);
    }
}
