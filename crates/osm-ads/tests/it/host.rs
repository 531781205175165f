//! A host that tells all its clients the same, and hears how it goes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use osm_ads::{Host, Limits, Node, SessionEvent, Subscription};
use osm_xds::{Resource, ResourceType, Resources, SessionStatus, TypeStatus};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint, Server},
};

/// For anything that must happen soon on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The only token that the host accepts.
pub(crate) const TOKEN: &str = "Bearer sesame";

pub(crate) struct TestHost {
    resources: watch::Receiver<Option<Arc<Resources>>>,
    nodes: mpsc::UnboundedSender<Node>,
    events: mpsc::UnboundedSender<SessionEvent>,
}

/// A host on a port of its own, until dropped.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) resources: Option<watch::Sender<Option<Arc<Resources>>>>,
    pub(crate) nodes: mpsc::UnboundedReceiver<Node>,
    pub(crate) events: mpsc::UnboundedReceiver<SessionEvent>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Host for TestHost {
    async fn open(&self, metadata: &MetadataMap, node: &Node) -> Result<Subscription, Status> {
        let token = metadata.get("authorization").ok_or_else(|| Status::unauthenticated("no token"))?;
        if token != TOKEN {
            return Err(Status::unauthenticated("a token that nobody issued"));
        }
        self.nodes.send(node.clone()).unwrap();
        let events = self.events.clone();
        // The test may have ended before the session does.
        let report = move |event| _ = events.send(event);
        Ok(Subscription { resources: self.resources.clone(), notices: None, report: Box::new(report) })
    }
}

impl Serving {
    pub(crate) async fn start(resources: Option<Arc<Resources>>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), resources, Limits::default()).await
    }

    pub(crate) async fn start_at(address: SocketAddr, resources: Option<Arc<Resources>>, limits: Limits) -> Self {
        let (resources, followed) = watch::channel(resources);
        let (node_heard, nodes) = mpsc::unbounded_channel();
        let (heard, events) = mpsc::unbounded_channel();
        let host = Arc::new(TestHost { resources: followed, nodes: node_heard, events: heard });
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let service = osm_ads::service(host, limits, shutdown.clone());
        let stop = shutdown.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop).await.unwrap();
        });
        Self { address, resources: Some(resources), nodes, events, shutdown, server }
    }

    /// Ends all streams and frees the port.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.server).await.unwrap();
    }

    pub(crate) fn tell(&self, resources: Arc<Resources>) {
        self.resources.as_ref().unwrap().send_replace(Some(resources));
    }

    /// The next event that is not a mere change of state.
    pub(crate) async fn event(&mut self) -> SessionEvent {
        loop {
            match within(self.events.recv()).await.unwrap() {
                SessionEvent::Status(_) | SessionEvent::Answered(_) => {}
                event => return event,
            }
        }
    }

    /// Waits for a state of the session.
    pub(crate) async fn status(&mut self, is_wanted: impl Fn(&SessionStatus) -> bool) -> SessionStatus {
        loop {
            match within(self.events.recv()).await.unwrap() {
                SessionEvent::Status(status) if is_wanted(&status) => return status,
                _ => {}
            }
        }
    }
}

/// A connection to `address`; lazily, so that a server that is not there yet is an error of the call.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens before the deadline")
}

/// Resources by type, each `name` or `name=content`.
pub(crate) fn resources(of: &[(ResourceType, &str)]) -> Arc<Resources> {
    let resource = |text: &str| {
        let (name, content) = text.split_once('=').unwrap_or((text, ""));
        Resource::new(name, content.as_bytes())
    };
    let named = of.iter().flat_map(|(ty, names)| names.split_whitespace().map(|text| (*ty, resource(text))));
    Arc::new(named.collect())
}

/// The session of a proxy that has accepted all of these.
pub(crate) fn accepted(resources: &Resources) -> SessionStatus {
    let of =
        |ty: ResourceType| TypeStatus { subscribed: true, version: resources.version_of(ty), ..TypeStatus::default() };
    SessionStatus { types: ResourceType::ALL.into_iter().map(|ty| (ty, of(ty))).collect::<BTreeMap<_, _>>() }
}
