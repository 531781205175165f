//! The way to a controller: keeps a copy of all it tells, through every loss of the connection.

use std::{future::Future, sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::core::v3::Node as WireNode,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use jiff::Timestamp;
use osm_runtime::{Backoff, chance, clock};
use osm_xds::{Replica, Request, Resources, SessionStatus};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    notice::Notice,
    server::{Node, RESPONSE_BYTES_MAX},
    wire,
};

/// Delays between attempts: short at first, because programs wait while there is no configuration, and bounded so that
/// a controller that is back is found soon.
const RECONNECT: Backoff = Backoff { first: Duration::from_millis(25), limit: Duration::from_secs(5) };

/// How long the controller may take to admit or refuse a stream once connected.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Requests that may wait to be written. A subscription and an answer per type are all that there can be; a
/// controller that does not read them is not there.
const REQUESTS_QUEUED_MAX: usize = 16;

/// What a client works with.
pub struct Client<C, E> {
    /// Who it says it is. What it proves is in [`Connection::authorization`].
    pub node: Node,
    /// Makes a connection; called anew after every loss, so that it can read a renewed token.
    pub connect: C,
    /// The copy, empty or from an earlier life.
    pub replica: Replica,
    /// Gets the copy whenever it changes; none until it is complete for the first time.
    pub resources: watch::Sender<Option<Arc<Resources>>>,
    /// The session with the proxy behind this client (the default while there is none). A response is accepted or
    /// rejected only when the proxy has done so.
    pub proxy: watch::Receiver<SessionStatus>,
    /// Gets what the controller says about the pod itself.
    pub notice: watch::Sender<Notice>,
    /// Gets how the connection stands.
    pub state: watch::Sender<ConnectionState<E>>,
}

/// A way to reach a controller, and the right to do so.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where to.
    pub channel: Channel,
    /// The `authorization` header, if one is needed.
    pub authorization: Option<MetadataValue<Ascii>>,
}

/// How the connection stands. `E` is why connecting can fail.
#[derive(Clone, Debug)]
pub enum ConnectionState<E> {
    /// Not connected, and nothing has failed yet.
    Connecting { since: Timestamp },
    /// The controller has admitted this client.
    Connected {
        since: Timestamp,
        /// Whether it has answered for every type since: the published copy is its present word. A client that is
        /// held is not.
        is_current: bool,
    },
    /// The last attempt or connection failed; the next one is under way or will be soon.
    Failed { since: Timestamp, failure: Failure<E> },
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub enum Failure<E> {
    /// It could not be made.
    Connect(E),
    /// The controller refused it, or it ended.
    Stream(Status),
}

/// Keeps the copy until `shutdown`.
pub async fn run<C, F, E>(mut client: Client<C, E>, shutdown: CancellationToken)
where
    C: FnMut() -> F + Send,
    F: Future<Output = Result<Connection, E>> + Send,
    E: Clone + Send + Sync,
{
    let mut failures: u32 = 0;
    let mut rng = chance::generator();
    client.state.send_replace(ConnectionState::Connecting { since: clock::now() });
    loop {
        let failure = tokio::select! {
            () = shutdown.cancelled() => return,
            failure = client.connect_and_follow(&mut failures) => failure,
        };
        client.state.send_replace(ConnectionState::Failed { since: clock::now(), failure });
        failures = failures.saturating_add(1);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RECONNECT.delay(failures, &mut rng)) => {}
        }
    }
}

impl<C, F, E> Client<C, E>
where
    C: FnMut() -> F + Send,
    F: Future<Output = Result<Connection, E>> + Send,
    E: Clone + Send + Sync,
{
    /// One connection from its making to its end. Forgets earlier failures once the controller has told something.
    async fn connect_and_follow(&mut self, failures: &mut u32) -> Failure<E> {
        let connection = match (self.connect)().await {
            Ok(connection) => connection,
            Err(error) => return Failure::Connect(error),
        };
        match self.follow(connection, failures).await {
            Ok(()) => Failure::Stream(Status::unavailable("the controller ended the stream")),
            Err(status) => Failure::Stream(status),
        }
    }

    async fn follow(&mut self, connection: Connection, failures: &mut u32) -> Result<(), Status> {
        let (requests, queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let first = self.replica.on_connect(&self.proxy.borrow());
        send(&requests, first, Some(&self.node))?;
        let mut responses = open(connection, queued).await?;
        let since = clock::now();
        self.state.send_replace(ConnectionState::Connected { since, is_current: false });
        let mut is_current = false;
        // What the proxy has answered for before counts for this connection too.
        self.proxy.mark_changed();
        let mut is_proxy_watched = true;
        loop {
            // Both are cancel safe: a message is taken whole or not at all.
            tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => {
                        *failures = 0;
                        self.on_response(response);
                        if !std::mem::replace(&mut is_current, self.replica.is_current()) && is_current {
                            self.state.send_replace(ConnectionState::Connected { since, is_current });
                        }
                    }
                    None => return Ok(()),
                },
                changed = self.proxy.changed(), if is_proxy_watched => is_proxy_watched = changed.is_ok(),
            }
            let answers = self.replica.relay(&self.proxy.borrow_and_update());
            send(&requests, answers, None)?;
        }
    }

    fn on_response(&mut self, response: DeltaDiscoveryResponse) {
        if let Some(notice) = Notice::from_wire(&response) {
            self.notice.send_replace(notice);
            return;
        }
        let type_url = response.type_url.clone();
        let Some(response) = wire::response_from(response) else {
            tracing::warn!(type_url, "the controller sends a type that was not asked for");
            return;
        };
        self.replica.on_response(response);
        if !self.replica.is_complete() {
            return;
        }
        let copy = self.replica.resources();
        self.resources.send_if_modified(|published| {
            let is_new = published.as_ref() != Some(&copy);
            if is_new {
                *published = Some(copy);
            }
            is_new
        });
    }
}

async fn open(
    connection: Connection,
    queued: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaDiscoveryResponse>, Status> {
    let mut request = tonic::Request::new(ReceiverStream::new(queued));
    if let Some(authorization) = connection.authorization {
        request.metadata_mut().insert("authorization", authorization);
    }
    let mut ads =
        AggregatedDiscoveryServiceClient::new(connection.channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let opened = tokio::time::timeout(OPEN_LIMIT, ads.delta_aggregated_resources(request)).await;
    let opened =
        opened.map_err(|_| Status::deadline_exceeded(format!("the controller did not answer in {OPEN_LIMIT:?}")))?;
    Ok(opened?.into_inner())
}

/// Queues requests; only the first on a stream says who this is.
fn send(
    queue: &mpsc::Sender<DeltaDiscoveryRequest>,
    requests: Vec<Request>,
    node: Option<&Node>,
) -> Result<(), Status> {
    let mut node = node.map(|node| WireNode {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        user_agent_name: node.user_agent.clone(),
        ..WireNode::default()
    });
    for request in requests {
        let request = DeltaDiscoveryRequest { node: node.take(), ..wire::request_to(request) };
        queue.try_send(request).map_err(|_| Status::unavailable("the controller does not read its stream"))?;
    }
    Ok(())
}
