//! The client: with our service, and with a scripted controller where the wire matters.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use osm_ads::{
    Limits, Node, SessionEvent,
    client::{self, Client, Connection, ConnectionState, Failure},
};
use osm_xds::{
    Rejection, Replica,
    ResourceType::{self, Cluster, Endpoint, Listener, Route},
    Resources, SessionStatus,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use crate::{
    host::{Serving, TOKEN, accepted, channel, resources, within},
    scripted,
};

/// A client that runs until dropped.
struct Following {
    resources: watch::Receiver<Option<Arc<Resources>>>,
    proxy: watch::Sender<SessionStatus>,
    state: watch::Receiver<ConnectionState<String>>,
    /// Whether it can read its token.
    has_token: Arc<AtomicBool>,
    /// Whether its token is good.
    is_token_good: Arc<AtomicBool>,
    _stop: DropGuard,
}

impl Following {
    fn start(address: SocketAddr) -> Self {
        Self::start_with(address, None)
    }

    /// With the copy of an earlier life.
    fn start_with(address: SocketAddr, earlier: Option<Arc<Resources>>) -> Self {
        let (resources, followed) = watch::channel(earlier.clone());
        let (proxy, proxy_followed) = watch::channel(SessionStatus::default());
        let now = osm_runtime::clock::now();
        let (state, state_followed) = watch::channel(ConnectionState::Connecting { since: now });
        let has_token = Arc::new(AtomicBool::new(true));
        let is_token_good = Arc::new(AtomicBool::new(true));
        let (has, is_good) = (has_token.clone(), is_token_good.clone());
        let connect = move || {
            let token = if is_good.load(Ordering::SeqCst) { TOKEN } else { "Bearer forged" };
            let authorization = has.load(Ordering::SeqCst).then(|| token.parse().unwrap());
            async move {
                let authorization = Some(authorization.ok_or_else(|| "no token file".to_owned())?);
                Ok(Connection { channel: channel(address), authorization })
            }
        };
        let client = Client {
            node: Node { id: "shop/client".into(), cluster: "client.shop".into(), user_agent: "test".into() },
            connect,
            replica: earlier.map_or_else(Replica::new, Replica::from_earlier),
            resources,
            proxy: proxy_followed,
            notice: watch::channel(osm_ads::Notice::default()).0,
            state,
        };
        let stop = CancellationToken::new();
        tokio::spawn(client::run(client, stop.clone()));
        let (resources, state) = (followed, state_followed);
        Self { resources, proxy, state, has_token, is_token_good, _stop: stop.drop_guard() }
    }

    async fn copy(&mut self, is_wanted: impl Fn(&Resources) -> bool) -> Arc<Resources> {
        let found = within(self.resources.wait_for(|copy| copy.as_deref().is_some_and(&is_wanted))).await;
        found.unwrap().clone().unwrap()
    }

    async fn state(&mut self, is_wanted: impl FnMut(&ConnectionState<String>) -> bool) -> ConnectionState<String> {
        within(self.state.wait_for(is_wanted)).await.unwrap().clone()
    }

    async fn current(&mut self) {
        self.state(|state| matches!(state, ConnectionState::Connected { is_current: true, .. })).await;
    }

    async fn connected(&mut self) {
        self.state(|state| matches!(state, ConnectionState::Connected { .. })).await;
    }
}

const ALL: &[(ResourceType, &str)] = &[(Cluster, "a"), (Endpoint, "a"), (Listener, "l"), (Route, "r")];

#[tokio::test]
async fn a_client_is_held_then_gets_everything_then_what_changes() {
    let mut serving = Serving::start(None).await;
    let mut following = Following::start(serving.address);
    following.connected().await;
    let node = within(serving.nodes.recv()).await.unwrap();
    assert_eq!(node.user_agent, "test");
    assert!(following.resources.borrow().is_none());
    let first = resources(ALL);
    serving.tell(first.clone());
    assert_eq!(following.copy(|_| true).await, first);
    following.proxy.send_replace(accepted(&first));
    serving.status(SessionStatus::is_settled).await;
    let second = resources(&[(Cluster, "b"), (Endpoint, "b"), (Listener, "l"), (Route, "r=2")]);
    serving.tell(second.clone());
    // Step by step: what is new first, and what is gone when the proxy does not use it any more.
    let third = following.copy(|copy| copy.get(Endpoint, "b").is_some()).await;
    assert_eq!(third.get(Route, "r"), first.get(Route, "r"), "routes wait for clusters");
    following.proxy.send_replace(accepted(&third));
    let fourth = following.copy(|copy| copy.get(Route, "r") == second.get(Route, "r")).await;
    assert!(fourth.get(Cluster, "a").is_some(), "clusters wait for routes");
    following.proxy.send_replace(accepted(&fourth));
    let fifth = following.copy(|copy| copy.get(Cluster, "a").is_none() && copy.get(Endpoint, "a").is_none()).await;
    assert_eq!(fifth, second);
    following.proxy.send_replace(accepted(&fifth));
    serving.status(SessionStatus::is_settled).await;
}

#[tokio::test]
async fn a_rejection_reaches_the_host_in_the_proxys_words() {
    let mut serving = Serving::start(Some(resources(ALL))).await;
    let mut following = Following::start(serving.address);
    let copy = following.copy(|_| true).await;
    let mut status = accepted(&copy);
    let rejection = Rejection { names: vec!["l".into()], message: "cannot bind l: address in use".into() };
    status.types.get_mut(&Listener).unwrap().rejected = vec![rejection.clone()];
    following.proxy.send_replace(status);
    let Rejection { names, message } = rejection.clone();
    loop {
        match serving.event().await {
            SessionEvent::Accepted { ty } => assert_ne!(ty, Listener),
            event => break assert_eq!(event, SessionEvent::Rejected { ty: Listener, names, message }),
        }
    }
    let status = serving.status(|status| !status.of(Listener).rejected.is_empty()).await;
    assert_eq!(status.of(Listener).rejected, [rejection]);
}

#[tokio::test]
async fn a_client_that_loses_its_controller_keeps_its_copy_and_asks_the_next_for_changes_only() {
    let (address, mut peers) = scripted::start().await;
    let mut following = Following::start(address);
    let mut peer = within(peers.recv()).await.unwrap();
    for ty in ResourceType::OF_CONTROLLER {
        let first = peer.request().await;
        assert_eq!((first.type_url.as_str(), first.resource_names_subscribe), (ty.url(), vec!["*".to_owned()]));
        assert_eq!(first.node.is_some(), ty == Cluster, "only the first request says who this is");
        assert!(first.initial_resource_versions.is_empty());
    }
    peer.respond(Cluster, "1", &[("a", "1"), ("b", "1")], &[]).await;
    peer.respond(Endpoint, "2", &[], &[]).await;
    peer.respond(Listener, "3", &[("l", "1")], &[]).await;
    peer.respond(Route, "4", &[], &[]).await;
    let first = following.copy(|_| true).await;
    assert_eq!(first, resources(&[(Cluster, "a=1 b=1"), (Listener, "l=1")]));
    assert_eq!(peer.request_soon().await, None, "the proxy has accepted nothing yet");
    following.proxy.send_replace(accepted(&first));
    for (ty, nonce) in [(Cluster, "1"), (Endpoint, "2"), (Listener, "3"), (Route, "4")] {
        let answer = peer.request().await;
        assert_eq!((answer.type_url.as_str(), answer.response_nonce.as_str()), (ty.url(), nonce));
        assert_eq!(answer.error_detail, None);
    }

    drop(peer);
    let mut peer = within(peers.recv()).await.unwrap();
    let again = peer.request().await;
    let version = |name| first.get(Cluster, name).unwrap().version.clone();
    let known = [("a".to_owned(), version("a")), ("b".to_owned(), version("b"))];
    assert_eq!(again.initial_resource_versions, known.into());
    assert!(again.response_nonce.is_empty() && again.node.is_some());
    assert_eq!(following.resources.borrow().as_ref(), Some(&first), "the copy outlives the connection");
    peer.respond(Cluster, "1", &[("a", "2")], &["b"]).await;
    let second = following.copy(|copy| copy.get(Cluster, "b").is_none()).await;
    assert_eq!(second, resources(&[(Cluster, "a=2"), (Listener, "l=1")]));
}

#[tokio::test]
async fn a_client_finds_a_controller_that_is_back() {
    let all = resources(ALL);
    let serving = Serving::start(Some(all.clone())).await;
    let address = serving.address;
    let mut following = Following::start(address);
    following.copy(|_| true).await;
    following.proxy.send_replace(accepted(&all));
    serving.stop().await;
    let lost = following.state(|state| matches!(state, ConnectionState::Failed { .. })).await;
    assert!(matches!(lost, ConnectionState::Failed { failure: Failure::Stream(_), .. }), "{lost:?}");
    let mut serving = Serving::start_at(address, Some(all), Limits::default()).await;
    serving.status(SessionStatus::is_settled).await;
    following.connected().await;
    assert!(!following.resources.has_changed().unwrap(), "nothing has changed");
}

#[tokio::test]
async fn a_client_that_is_refused_says_why_and_gets_in_once_it_may() {
    let serving = Serving::start(Some(resources(ALL))).await;
    let mut following = Following::start(serving.address);
    following.copy(|_| true).await;
    following.is_token_good.store(false, Ordering::SeqCst);
    let address = serving.address;
    serving.stop().await;
    let _serving = Serving::start_at(address, Some(resources(ALL)), Limits::default()).await;
    let is_refused = |state: &ConnectionState<String>| {
        let ConnectionState::Failed { failure: Failure::Stream(status), .. } = state else { return false };
        status.code() == Code::Unauthenticated && status.message() == "a token that nobody issued"
    };
    following.state(is_refused).await;
    following.has_token.store(false, Ordering::SeqCst);
    let has_none = |state: &ConnectionState<String>| matches!(state, ConnectionState::Failed { failure: Failure::Connect(why), .. } if why == "no token file");
    following.state(has_none).await;
    following.has_token.store(true, Ordering::SeqCst);
    following.is_token_good.store(true, Ordering::SeqCst);
    following.connected().await;
}

#[tokio::test]
async fn a_client_from_an_earlier_life_gets_the_difference_and_says_when_it_has_it() {
    let earlier = resources(&[(Cluster, "a b"), (Endpoint, "a b"), (Listener, "l"), (Route, "r")]);
    let serving = Serving::start(None).await;
    let mut following = Following::start_with(serving.address, Some(earlier.clone()));
    following.proxy.send_replace(accepted(&earlier));
    following.connected().await;
    let held = following.state.borrow().clone();
    assert!(matches!(held, ConnectionState::Connected { is_current: false, .. }), "{held:?}");
    serving.tell(resources(ALL));
    following.current().await;
    assert_eq!(following.copy(|copy| copy.get(Cluster, "b").is_none()).await.get(Route, "r"), earlier.get(Route, "r"));
    let address = serving.address;
    serving.stop().await;
    following.state(|state| matches!(state, ConnectionState::Failed { .. })).await;
    following.proxy.send_replace(accepted(&resources(ALL)));
    let _serving = Serving::start_at(address, Some(resources(ALL)), Limits::default()).await;
    following.current().await;
}
