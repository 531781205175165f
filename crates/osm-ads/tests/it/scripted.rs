//! A controller that does as it is told, to see what the client puts on the wire.

use std::pin::Pin;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as WireResource,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use envoy_types::pb::google::protobuf::Any;
use futures::Stream;
use osm_xds::{Resource, ResourceType};
use std::net::SocketAddr;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::host::within;

/// A connected client: what it says, and the way to answer it. Dropping it ends the stream.
pub(crate) struct Peer {
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

/// Starts to serve and returns where, and every client that connects.
pub(crate) async fn start() -> (SocketAddr, mpsc::Receiver<Peer>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peers, accepted) = mpsc::channel(4);
    let service = AggregatedDiscoveryServiceServer::new(Scripted { peers });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (address, accepted)
}

struct Scripted {
    peers: mpsc::Sender<Peer>,
}

impl Peer {
    pub(crate) async fn request(&mut self) -> DeltaDiscoveryRequest {
        within(self.requests.message()).await.unwrap().expect("the client goes on")
    }

    /// The next request if it is on its way already.
    pub(crate) async fn request_soon(&mut self) -> Option<DeltaDiscoveryRequest> {
        let soon = std::time::Duration::from_millis(100);
        tokio::time::timeout(soon, self.requests.message()).await.ok()?.unwrap()
    }

    pub(crate) async fn respond(&self, ty: ResourceType, nonce: &str, resources: &[(&str, &str)], removed: &[&str]) {
        let on_wire = |(name, content): &(&str, &str)| {
            let resource = Resource::new(*name, content.as_bytes());
            WireResource {
                name: resource.name,
                version: resource.version,
                resource: Some(Any { type_url: ty.url().into(), value: resource.body.to_vec() }),
                ..WireResource::default()
            }
        };
        let response = DeltaDiscoveryResponse {
            type_url: ty.url().into(),
            nonce: nonce.into(),
            resources: resources.iter().map(on_wire).collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Scripted {
    type StreamAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        panic!("the client speaks delta only");
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, queued) = mpsc::channel(16);
        self.peers.send(Peer { requests: request.into_inner(), responses }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(queued)))
    }
}
