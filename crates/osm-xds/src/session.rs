//! The server's side of one delta ADS stream.
//!
//! Additions go in the order clusters, load assignments, then listeners and routes, which wait until the client has
//! answered for the clusters and load assignments before them (make before break). Removals of clusters go last, when
//! nothing that the client uses can refer to them. Load assignments and secrets never wait for anything: a client holds
//! back its answer for clusters while these warm, and they warm only when they have their load assignment and secrets.

mod rejections;
mod subscription;

use std::sync::Arc;

use crate::{
    message::{Request, Response},
    resources::{ResourceType, Resources},
    status::SessionStatus,
};
use subscription::{Scope, Subscription};

/// One client's state: what it wants, what it was told, what it has answered.
#[derive(Debug)]
pub struct Session {
    resources: Arc<Resources>,
    /// Indexed by the position of the type in [`ResourceType::ALL`].
    subscriptions: [Subscription; ResourceType::ALL.len()],
    responses_sent: u64,
}

impl Session {
    /// A session that will bring its client to `resources`.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources, subscriptions: ResourceType::ALL.map(Subscription::new), responses_sent: 0 }
    }

    /// Takes a request and returns what can be sent now.
    pub fn on_request(&mut self, request: Request) -> Vec<Response> {
        self.subscriptions[request.ty as usize].on_request(request, &self.resources);
        self.advance()
    }

    /// Takes the resources that the client should have from now on, and returns what can be sent now.
    pub fn on_resources(&mut self, resources: Arc<Resources>) -> Vec<Response> {
        let before = std::mem::replace(&mut self.resources, resources);
        for subscription in &mut self.subscriptions {
            if !before.shares_type(subscription.ty, &self.resources) {
                subscription.compare(&self.resources);
            }
        }
        self.advance()
    }

    /// The resources that the client is being brought to.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// What is under way, what waits and what was rejected.
    pub fn status(&self) -> SessionStatus {
        SessionStatus {
            types: self.subscriptions.iter().map(|state| (state.ty, state.status(&self.resources))).collect(),
        }
    }

    /// All that the client has answered for last of its load assignments, accepted or not; none if it has answered for
    /// none on this stream, or wants some by name and not all.
    ///
    /// Each load assignment in it was sent to the client in this version, and the client has answered. One that is not
    /// in it may be with the client still, if its cluster is.
    pub fn answered_load_assignments(&self) -> Option<&Arc<Resources>> {
        self.subscriptions[ResourceType::Endpoint as usize].answered_all()
    }

    /// How many names the client subscribes to, for the limit that the server sets.
    pub fn subscribed_names(&self) -> usize {
        self.subscriptions.iter().map(Subscription::subscribed_names).sum()
    }

    /// Sends, type by type in push order, what may be sent now.
    fn advance(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        for ty in ResourceType::ALL {
            let scope = self.scope(ty);
            let nonce = (self.responses_sent + 1).to_string();
            let Some(response) = self.subscriptions[ty as usize].respond(scope, nonce, &self.resources) else {
                continue;
            };
            self.responses_sent += 1;
            if ty == ResourceType::Cluster {
                // A changed cluster stays warming, and its acceptance is held back, until its load assignment comes
                // once more, even an unchanged one.
                let changed = response.resources.iter().map(|cluster| cluster.name.as_str());
                self.subscriptions[ResourceType::Endpoint as usize].ask_again(changed);
            }
            responses.push(response);
        }
        responses
    }

    /// How much of what is owed of this type may be sent now.
    fn scope(&self, ty: ResourceType) -> Scope {
        let of = |ty: ResourceType| &self.subscriptions[ty as usize];
        let (clusters, endpoints) = (of(ResourceType::Cluster), of(ResourceType::Endpoint));
        let (listeners, routes) = (of(ResourceType::Listener), of(ResourceType::Route));
        match ty {
            ResourceType::Secret => Scope::Everything,
            ResourceType::Cluster if listeners.lets_go(&self.resources) && routes.lets_go(&self.resources) => {
                Scope::Everything
            }
            ResourceType::Cluster => Scope::Additions,
            ResourceType::Endpoint if clusters.owes_removals() => Scope::Additions,
            ResourceType::Endpoint => Scope::Everything,
            // What a client asks for by name it needs in order to warm something, so it does not wait for acceptance;
            // but nothing may refer to a cluster that was not even sent. (Envoy that reconnects with clusters warming
            // asks for clusters last.)
            ResourceType::Listener | ResourceType::Route
                if clusters.owes_additions() || !clusters.is_known(&self.resources) =>
            {
                Scope::Nothing
            }
            ResourceType::Listener | ResourceType::Route if !clusters.is_answered() || !endpoints.is_answered() => {
                Scope::Asked
            }
            ResourceType::Listener => Scope::Everything,
            ResourceType::Route if !listeners.lets_go(&self.resources) => Scope::Additions,
            ResourceType::Route => Scope::Everything,
        }
    }
}
