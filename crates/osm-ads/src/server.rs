//! The ADS service: opens a session per stream, within limits.

mod stream;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::core::v3::Node as WireNode,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use futures::Stream;
use osm_xds::{ResourceType, Resources, SessionStatus};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use crate::notice::Notice;
use stream::SessionStream;

/// The delta ADS service of `host`, to be mounted on a tonic server or an axum router. Streams end at `shutdown`.
pub fn service<H: Host>(
    host: Arc<H>,
    limits: Limits,
    shutdown: CancellationToken,
) -> AggregatedDiscoveryServiceServer<AdsService<H>> {
    let streams = Arc::new(Semaphore::new(limits.streams_max));
    AggregatedDiscoveryServiceServer::new(AdsService { host, limits, streams, shutdown })
        .max_decoding_message_size(limits.request_bytes_max)
        .max_encoding_message_size(RESPONSE_BYTES_MAX)
}

/// Largest response, in bytes: every resource of one type for one class of proxies, with room to spare.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who may connect, and what they are told.
pub trait Host: Send + Sync + 'static {
    /// Admits a client by the metadata of its call and the node that it claims to be, or says why not.
    fn open(&self, metadata: &MetadataMap, node: &Node) -> impl Future<Output = Result<Subscription, Status>> + Send;
}

/// What an admitted client is told, and who hears how it goes.
pub struct Subscription {
    /// The client's resources; none holds the client until something is known for it. The stream ends when the sender
    /// is dropped.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// What the client is told about itself besides, at once and on every change; none if there is never anything.
    pub notices: Option<watch::Receiver<Notice>>,
    /// Hears every event of the session, in order. It must not block.
    pub report: Report,
}

/// Takes the events of one session.
pub type Report = Box<dyn FnMut(SessionEvent) + Send>;

/// What happens in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The client accepted a response of this type.
    Accepted { ty: ResourceType },
    /// The client rejected resources, in its own words.
    Rejected { ty: ResourceType, names: Vec<String>, message: String },
    /// What of its load assignments a client that wants all of them has answered for:
    /// [`osm_xds::Session::answered_load_assignments`].
    Answered(Arc<Resources>),
    /// The state after whatever changed it, the other events included.
    Status(SessionStatus),
    /// The stream ended; the last event.
    Closed,
}

/// Who a client says it is. Nothing here is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Chosen by the client.
    pub id: String,
    /// The group that it says it belongs to.
    pub cluster: String,
    /// The name of its software.
    pub user_agent: String,
}

/// What clients may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams at the same time; one more is refused.
    pub streams_max: usize,
    /// Names that one client may subscribe to. With more it is cut off.
    pub names_max: usize,
    /// Largest request, in bytes. A reconnecting client lists all the versions that it has.
    pub request_bytes_max: usize,
    /// How long a client may take to say who it is.
    pub first_request_limit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 20_000,
            names_max: 50_000,
            request_bytes_max: 8 * 1024 * 1024,
            first_request_limit: Duration::from_secs(10),
        }
    }
}

/// The service; made by [`service`].
pub struct AdsService<H> {
    host: Arc<H>,
    limits: Limits,
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<H: Host> AggregatedDiscoveryService for AdsService<H> {
    type StreamAggregatedResourcesStream = ResponseStream<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = ResponseStream<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the delta protocol is served here; set api_type to DELTA_GRPC in ads_config"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("all {} streams are taken; try again later", self.limits.streams_max))
        })?;
        let (metadata, _, mut requests) = request.into_parts();
        let limit = self.limits.first_request_limit;
        let first = tokio::time::timeout(limit, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no request within {limit:?}")))??
            .ok_or_else(|| Status::cancelled("the stream ended before its first request"))?;
        let node = first.node.as_ref().map(Node::from).unwrap_or_default();
        let subscription = self.host.open(&metadata, &node).await?;
        let stream = SessionStream::new(subscription, first, requests, self.limits, self.shutdown.clone(), permit);
        Ok(Response::new(Box::pin(stream.responses())))
    }
}

impl From<&WireNode> for Node {
    fn from(node: &WireNode) -> Self {
        Self { id: node.id.clone(), cluster: node.cluster.clone(), user_agent: node.user_agent_name.clone() }
    }
}
