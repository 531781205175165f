//! Delta ADS for our own Envoy, over the Unix socket that only this user can open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::StreamExt;
use nix::unistd::geteuid;
use osm_ads::{Host, Limits, Node, SessionEvent, Subscription};
use osm_xds::{Resources, SessionStatus};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;

/// One Envoy, and its successor while the kernel still closes the first one's stream.
const STREAMS_MAX: usize = 4;

/// Serves one Envoy and tells how its session stands.
#[derive(Debug)]
pub struct ForEnvoy {
    node_id: String,
    resources: watch::Receiver<Option<Arc<Resources>>>,
    /// That of the newest stream; the default while there is none.
    session: watch::Sender<SessionStatus>,
    streams_opened: Arc<AtomicU64>,
}

impl ForEnvoy {
    /// Serves `resources` to the Envoy that calls itself `node_id`, and publishes the state of its session.
    pub fn new(
        node_id: String,
        resources: watch::Receiver<Option<Arc<Resources>>>,
        session: watch::Sender<SessionStatus>,
    ) -> ForEnvoy {
        ForEnvoy { node_id, resources, session, streams_opened: Arc::default() }
    }
}

impl Host for ForEnvoy {
    async fn open(&self, _: &MetadataMap, node: &Node) -> Result<Subscription, Status> {
        if node.id != self.node_id {
            return Err(Status::permission_denied(format!("this socket is for {}, not for {}", self.node_id, node.id)));
        }
        let stream = self.streams_opened.fetch_add(1, Ordering::SeqCst) + 1;
        let (session, newest) = (self.session.clone(), self.streams_opened.clone());
        session.send_replace(SessionStatus::default());
        let report = move |event| {
            // The stream of an Envoy that was killed may end after its successor's has begun.
            if newest.load(Ordering::SeqCst) != stream {
                return;
            }
            match event {
                SessionEvent::Status(status) => {
                    session.send_replace(status);
                }
                SessionEvent::Closed => {
                    session.send_replace(SessionStatus::default());
                }
                SessionEvent::Rejected { ty, names, message } => {
                    tracing::warn!(%ty, names = names.join(", "), error = message, "Envoy rejected a configuration");
                }
                SessionEvent::Accepted { ty } => tracing::debug!(%ty, "Envoy accepted a configuration"),
                SessionEvent::Answered(_) => {}
            }
        };
        Ok(Subscription { resources: self.resources.clone(), notices: None, report: Box::new(report) })
    }
}

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, host: ForEnvoy, stop: CancellationToken) -> anyhow::Result<()> {
    let limits = Limits { streams_max: STREAMS_MAX, ..Limits::default() };
    let service = osm_ads::service(Arc::new(host), limits, stop.clone());
    // The socket's mode keeps others out; this holds even if somebody changes it.
    let ours = UnixListenerStream::new(listener).filter(|stream| {
        let is_ours = match stream {
            Ok(stream) => stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw()),
            Err(_) => true,
        };
        std::future::ready(is_ours)
    });
    let server = Server::builder().add_service(service);
    server.serve_with_incoming_shutdown(ours, stop.cancelled_owned()).await.context("serving Envoy's socket")
}
