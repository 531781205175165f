//! The service as a client on the wire sees it.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::core::v3::Node as WireNode,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use osm_ads::{Limits, SessionEvent};
use osm_xds::ResourceType::{Cluster, Endpoint, Listener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use crate::host::{Serving, TOKEN, channel, resources, within};

/// One stream of a client.
struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    async fn open(serving: &Serving, first: DeltaDiscoveryRequest) -> Result<Self, Status> {
        let (requests, queued) = mpsc::channel(16);
        requests.send(first).await.unwrap();
        Self::open_with(serving, requests, queued).await
    }

    async fn open_with(
        serving: &Serving,
        requests: mpsc::Sender<DeltaDiscoveryRequest>,
        queued: mpsc::Receiver<DeltaDiscoveryRequest>,
    ) -> Result<Self, Status> {
        let mut request = Request::new(ReceiverStream::new(queued));
        request.metadata_mut().insert("authorization", TOKEN.parse().unwrap());
        let mut client = AggregatedDiscoveryServiceClient::new(channel(serving.address));
        let responses = within(client.delta_aggregated_resources(request)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        within(self.requests.send(request)).await.unwrap();
    }

    async fn response(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        Ok(within(self.responses.message()).await?.expect("the stream goes on"))
    }

    async fn end(&mut self) -> Status {
        within(self.responses.message()).await.unwrap_err()
    }
}

fn subscribe(ty: osm_xds::ResourceType, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(WireNode { id: "shop/client".into(), cluster: "client.shop".into(), ..WireNode::default() }),
        type_url: ty.url().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_stream_carries_what_the_session_says() {
    let mut serving = Serving::start(Some(resources(&[(Cluster, "a=body")]))).await;
    let mut stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    let node = within(serving.nodes.recv()).await.unwrap();
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("shop/client", "client.shop"));
    let response = stream.response().await.unwrap();
    let resource = &response.resources[0];
    let any = resource.resource.as_ref().unwrap();
    assert_eq!(
        (resource.name.as_str(), any.type_url.as_str(), any.value.as_slice()),
        ("a", Cluster.url(), &b"body"[..])
    );
    assert_eq!(resource.version, resources(&[(Cluster, "a=body")]).get(Cluster, "a").unwrap().version);
    stream.send(DeltaDiscoveryRequest { response_nonce: response.nonce, ..subscribe(Cluster, &[]) }).await;
    assert_eq!(serving.event().await, SessionEvent::Accepted { ty: Cluster });
    serving.tell(resources(&[(Cluster, "b")]));
    let added = stream.response().await.unwrap();
    assert_eq!(added.resources.iter().map(|resource| resource.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn a_client_is_held_until_something_is_known_for_it() {
    let mut serving = Serving::start(None).await;
    let mut stream = Stream::open(&serving, subscribe(Cluster, &["*"])).await.unwrap();
    stream.send(subscribe(Endpoint, &["a"])).await;
    within(serving.nodes.recv()).await.unwrap();
    serving.resources.as_ref().unwrap().send_replace(None);
    serving.tell(resources(&[(Cluster, "a"), (Endpoint, "a")]));
    assert_eq!(stream.response().await.unwrap().type_url, Cluster.url());
    assert_eq!(stream.response().await.unwrap().type_url, Endpoint.url());
}

#[tokio::test]
async fn nothing_is_sent_again_to_a_client_that_comes_back() {
    let all = resources(&[(Cluster, "a b"), (Listener, "l")]);
    let serving = Serving::start(Some(all.clone())).await;
    let versions = all.of(Cluster).values().map(|r| (r.name.clone(), r.version.clone())).collect();
    let back = DeltaDiscoveryRequest { initial_resource_versions: versions, ..subscribe(Cluster, &["*"]) };
    let mut stream = Stream::open(&serving, back).await.unwrap();
    assert_eq!(stream.response().await.unwrap().resources, [], "it has all of it");
    stream.send(subscribe(Listener, &["*"])).await;
    assert_eq!(stream.response().await.unwrap().type_url, Listener.url());
}

#[tokio::test]
async fn the_other_protocol_is_refused_with_the_setting_to_change() {
    let serving = Serving::start(None).await;
    let mut client = AggregatedDiscoveryServiceClient::new(channel(serving.address));
    let requests = tokio_stream::once(DiscoveryRequest::default());
    let refused = within(client.stream_aggregated_resources(requests)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("DELTA_GRPC"), "{}", refused.message());
}

#[tokio::test]
async fn a_type_that_the_mesh_does_not_use_is_ignored() {
    let serving = Serving::start(Some(resources(&[(Cluster, "a")]))).await;
    let runtime = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".into(),
        ..subscribe(Cluster, &["rtds"])
    };
    let mut stream = Stream::open(&serving, runtime).await.unwrap();
    stream.send(subscribe(Cluster, &[])).await;
    assert_eq!(stream.response().await.unwrap().resources.len(), 1);
}

#[tokio::test]
async fn the_host_hears_when_the_client_goes() {
    let mut serving = Serving::start(Some(resources(&[]))).await;
    let mut stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    stream.response().await.unwrap();
    drop(stream);
    assert_eq!(serving.event().await, SessionEvent::Closed);
}

#[tokio::test]
async fn a_held_client_that_goes_is_noticed() {
    let mut serving = Serving::start(None).await;
    let stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    drop(stream);
    assert_eq!(serving.event().await, SessionEvent::Closed);
}

#[tokio::test]
async fn streams_end_with_the_server_and_with_what_they_follow() {
    let mut serving = Serving::start(Some(resources(&[]))).await;
    let mut stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    stream.response().await.unwrap();
    drop(serving.resources.take());
    let gone = stream.end().await;
    assert_eq!((gone.code(), gone.message()), (Code::Unavailable, "no longer served here; connect again"));

    let serving = Serving::start(None).await;
    let mut stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    serving.stop().await;
    assert_eq!(stream.end().await.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_a_client_may_cost_is_limited() {
    let first_request_limit = Duration::from_millis(50);
    let limits = Limits { streams_max: 1, names_max: 2, first_request_limit, request_bytes_max: 1024 };
    let serving = Serving::start_at(([127, 0, 0, 1], 0).into(), Some(resources(&[])), limits).await;
    let (requests, queued) = mpsc::channel(16);
    let silent = Stream::open_with(&serving, requests, queued).await;
    assert_eq!(silent.err().unwrap().code(), Code::DeadlineExceeded);

    let mut stream = Stream::open(&serving, subscribe(Cluster, &[])).await.unwrap();
    stream.response().await.unwrap();
    let refused = Stream::open(&serving, subscribe(Cluster, &[])).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    stream.send(subscribe(Endpoint, &["a", "b", "c"])).await;
    let cut = stream.end().await;
    assert_eq!((cut.code(), cut.message()), (Code::ResourceExhausted, "3 names subscribed, at most 2 are served"));

    // The place is free again, as soon as the connection has noticed.
    let mut stream = within(async {
        loop {
            if let Ok(stream) = Stream::open(&serving, subscribe(Cluster, &[])).await {
                return stream;
            }
        }
    })
    .await;
    stream.response().await.unwrap();
    stream.send(subscribe(Endpoint, &["x".repeat(2000).as_str()])).await;
    assert_eq!(stream.end().await.code(), Code::OutOfRange);
}
