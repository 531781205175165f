//! Random meshes, random order of messages, lost connections: the model of Envoy checks every message, and in the end it
//! has what it should have.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use osm_xds::{Replica, Request, ResourceType, Resources, SessionStatus};
use proptest::prelude::*;

use crate::{
    model::Envoy,
    server::Server,
    snapshot::{Snapshot, snapshots},
};

#[derive(Clone, Debug)]
enum Event {
    Resources(Snapshot),
    /// Messages cross the wire from here on: to the client, to the server.
    Deliver(u8, u8),
    AskAgain(usize),
    Reconnect,
    /// The connection between controller and agent, if there is an agent.
    ReconnectUpstream,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => snapshots().prop_map(Event::Resources),
        8 => (0..4_u8, 0..4_u8).prop_map(|(down, up)| Event::Deliver(down, up)),
        1 => any::<usize>().prop_map(Event::AskAgain),
        1 => Just(Event::Reconnect),
        1 => Just(Event::ReconnectUpstream),
    ];
    prop::collection::vec(event, 1..40)
}

/// More steps than any of these histories needs: a session that goes on and on does not settle.
const STEPS_MAX: usize = 2_000;

/// A server and Envoy, on one stream after the other.
struct Direct {
    resources: Arc<Resources>,
    server: Server,
    envoy: Envoy,
}

impl Direct {
    fn new(resources: Arc<Resources>) -> Self {
        let mut direct = Self { server: Server::new(resources.clone()), resources, envoy: Envoy::default() };
        direct.reconnect();
        direct
    }

    fn reconnect(&mut self) {
        self.server = Server::new(self.resources.clone());
        self.server.to_server.extend(self.envoy.connect());
    }

    fn set_resources(&mut self, resources: Arc<Resources>) {
        self.resources = resources.clone();
        self.server.set_resources(resources);
    }

    fn deliver_down(&mut self) -> bool {
        let Some(response) = self.server.to_client.pop_front() else { return false };
        let requests = self.envoy.receive(response);
        self.server.to_server.extend(requests);
        true
    }

    fn ask_again(&mut self, index: usize) {
        self.server.to_server.extend(self.envoy.ask_again(index));
    }
}

/// A controller, an agent with its copy and its own session, and Envoy.
struct Chain {
    resources: Arc<Resources>,
    controller: Server,
    replica: Replica,
    agent: Direct,
    /// The copies for which answers about load assignments are on the wire.
    acked: VecDeque<Arc<Resources>>,
    /// The one for which the last answer has come to the controller.
    with_envoy: Option<Arc<Resources>>,
}

impl Chain {
    fn new(resources: Arc<Resources>) -> Self {
        let agent = Direct::new(Arc::default());
        let mut chain = Self {
            controller: Server::new(resources.clone()),
            resources,
            replica: Replica::new(),
            agent,
            acked: VecDeque::new(),
            with_envoy: None,
        };
        chain.reconnect_upstream();
        chain
    }

    fn reconnect_upstream(&mut self) {
        self.acked.clear();
        self.with_envoy = None;
        self.controller = Server::new(self.resources.clone());
        self.controller.to_server.extend(self.replica.on_connect(&self.agent.server.session.status()));
    }

    fn deliver_from_controller(&mut self) -> bool {
        let Some(response) = self.controller.to_client.pop_front() else { return false };
        self.replica.on_response(response);
        self.agent.set_resources(self.replica.resources());
        true
    }

    fn relay(&mut self) {
        let status = self.agent.server.session.status();
        let answers = self.replica.relay(&status);
        let is_answer = |request: &&Request| request.ty == ResourceType::Endpoint && request.nonce.is_some();
        self.acked.extend(answers.iter().filter(is_answer).map(|_| self.replica.resources()));
        self.controller.to_server.extend(answers);
    }

    fn controller_receives(&mut self) -> bool {
        let next = self.controller.to_server.front();
        if next.is_some_and(|request| request.ty == ResourceType::Endpoint && request.nonce.is_some()) {
            self.with_envoy = self.acked.pop_front();
        }
        self.controller.receive()
    }

    fn step(&mut self) -> bool {
        let moved = [
            self.deliver_from_controller(),
            self.agent.server.receive(),
            self.agent.deliver_down(),
            self.controller_receives(),
        ];
        self.relay();
        moved.contains(&true)
    }
}

/// What an event does to a controller, an agent and its Envoy.
fn happens(chain: &mut Chain, event: Event) {
    match event {
        Event::Resources(snapshot) => {
            chain.resources = snapshot.resources();
            chain.controller.set_resources(chain.resources.clone());
        }
        Event::Deliver(down, up) => {
            (0..down).for_each(|_| _ = chain.deliver_from_controller());
            (0..up).for_each(|_| _ = chain.agent.server.receive());
            (0..down).for_each(|_| _ = chain.agent.deliver_down());
            chain.relay();
            (0..up).for_each(|_| _ = chain.controller_receives());
        }
        Event::AskAgain(index) => chain.agent.ask_again(index),
        Event::Reconnect => chain.agent.reconnect(),
        Event::ReconnectUpstream => chain.reconnect_upstream(),
    }
}

fn settle(mut step: impl FnMut() -> bool) {
    let steps = (0..STEPS_MAX).take_while(|_| step()).count();
    assert!(steps < STEPS_MAX, "messages go round for ever");
}

fn assert_settled(status: &SessionStatus) {
    assert!(status.is_settled(), "not settled: {status:#?}");
    assert_eq!(status.rejected().next(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn envoy_gets_what_it_should_have_in_an_order_that_breaks_nothing(
        first in snapshots(), events in events(), last in snapshots(),
    ) {
        let mut direct = Direct::new(first.resources());
        for event in events {
            match event {
                Event::Resources(snapshot) => direct.set_resources(snapshot.resources()),
                Event::Deliver(down, up) => {
                    (0..down).for_each(|_| _ = direct.deliver_down());
                    (0..up).for_each(|_| _ = direct.server.receive());
                }
                Event::AskAgain(index) => direct.ask_again(index),
                Event::Reconnect | Event::ReconnectUpstream => direct.reconnect(),
            }
        }
        settle(|| [direct.server.receive(), direct.deliver_down()].contains(&true));
        direct.set_resources(last.without_bad().resources());
        settle(|| [direct.server.receive(), direct.deliver_down()].contains(&true));
        assert_settled(&direct.server.session.status());
        prop_assert_eq!(&direct.envoy.resources(), &*direct.resources);
    }

    #[test]
    fn envoy_behind_an_agent_gets_what_the_controller_has(
        first in snapshots(), events in events(), last in snapshots(),
    ) {
        let mut chain = Chain::new(first.resources());
        for event in events {
            happens(&mut chain, event);
        }
        settle(|| chain.step());
        chain.resources = last.without_bad().resources();
        chain.controller.set_resources(chain.resources.clone());
        settle(|| chain.step());
        prop_assert!(chain.replica.is_complete());
        assert_settled(&chain.agent.server.session.status());
        assert_settled(&chain.controller.session.status());
        prop_assert_eq!(&*chain.replica.resources(), &*chain.resources);
        prop_assert_eq!(&chain.agent.envoy.resources(), &*chain.resources);
    }

    /// What the controller takes for answered is what the agent had when it answered, and it answers when Envoy has.
    #[test]
    fn what_counts_as_answered_is_with_envoy(first in snapshots(), events in events()) {
        let mut chain = Chain::new(first.resources());
        for event in events {
            happens(&mut chain, event);
            let answered = chain.controller.session.answered_load_assignments();
            prop_assert_eq!(answered.is_some(), chain.with_envoy.is_some());
            let (Some(answered), Some(with_envoy)) = (answered, &chain.with_envoy) else { continue };
            for (name, assignment) in answered.of(ResourceType::Endpoint) {
                prop_assert_eq!(with_envoy.get(ResourceType::Endpoint, name), Some(assignment));
            }
        }
    }

    /// Whatever Envoy rejects, everything else reaches it, and the session comes to rest.
    #[test]
    fn a_rejection_holds_up_nothing_else(first in snapshots(), second in snapshots()) {
        let mut direct = Direct::new(first.without_bad().resources());
        settle(|| [direct.server.receive(), direct.deliver_down()].contains(&true));
        direct.set_resources(second.resources());
        settle(|| [direct.server.receive(), direct.deliver_down()].contains(&true));
        let status = direct.server.session.status();
        for ty in ResourceType::ALL {
            prop_assert!(status.of(ty).is_idle(), "{} is not idle: {:?}", ty, status.of(ty));
            let is_bad = |r: &&Arc<osm_xds::Resource>| crate::snapshot::is_bad(r);
            let bad: Vec<_> = direct.resources.of(ty).values().filter(is_bad).map(|r| r.name.clone()).collect();
            let rejected: BTreeSet<_> = status.of(ty).rejected.into_iter().flat_map(|rejection| rejection.names).collect();
            // A route of a rejected listener is not asked for, so it cannot be rejected.
            let unrequested = status.of(ty).unrequested;
            let expected: BTreeSet<_> = bad.into_iter().filter(|name| !unrequested.contains(name)).collect();
            prop_assert_eq!(rejected, expected);
        }
    }
}
