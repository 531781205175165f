//! A session that watches itself: nothing goes out twice for no reason.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use osm_xds::{Request, ResourceType, Resources, Response, Session};

/// A session with the wire to its client.
pub(crate) struct Server {
    pub(crate) session: Session,
    pub(crate) to_client: VecDeque<Response>,
    pub(crate) to_server: VecDeque<Request>,
    /// The last version sent of what the client has not asked for since.
    sent: BTreeMap<(ResourceType, String), String>,
    started: BTreeSet<ResourceType>,
    in_flight: BTreeSet<ResourceType>,
}

impl Server {
    pub(crate) fn new(resources: Arc<Resources>) -> Self {
        Self {
            session: Session::new(resources),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            sent: BTreeMap::new(),
            started: BTreeSet::new(),
            in_flight: BTreeSet::new(),
        }
    }

    pub(crate) fn set_resources(&mut self, resources: Arc<Resources>) {
        let responses = self.session.on_resources(resources);
        self.send(responses);
    }

    /// Takes the next request off the wire; false if there is none.
    pub(crate) fn receive(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else { return false };
        if request.nonce.is_some() {
            self.in_flight.remove(&request.ty);
        }
        for name in request.unsubscribe.iter().chain(&request.subscribe) {
            self.sent.remove(&(request.ty, name.clone()));
        }
        if self.started.insert(request.ty) {
            let is_trusted = request.ty != ResourceType::Endpoint || request.subscribe.contains(&"*".to_owned());
            for (name, version) in request.initial_versions.iter().filter(|_| is_trusted) {
                self.sent.insert((request.ty, name.clone()), version.clone());
            }
        }
        let responses = self.session.on_request(request);
        self.send(responses);
        true
    }

    fn send(&mut self, responses: Vec<Response>) {
        for response in responses {
            assert!(self.in_flight.insert(response.ty), "two {} responses in flight", response.ty);
            for resource in &response.resources {
                let before = self.sent.insert((response.ty, resource.name.clone()), resource.version.clone());
                assert_ne!(before.as_ref(), Some(&resource.version), "{} {} sent twice", response.ty, resource.name);
                if response.ty == ResourceType::Cluster {
                    self.sent.remove(&(ResourceType::Endpoint, resource.name.clone()));
                }
            }
            for name in &response.removed {
                self.sent.remove(&(response.ty, name.clone()));
            }
            self.to_client.push_back(response);
        }
    }
}
