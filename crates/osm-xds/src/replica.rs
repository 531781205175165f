//! The client's side of delta xDS: a copy of what a controller tells, which outlives the connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    message::{Request, Response},
    resources::{ResourceType, Resources},
    status::{Rejection, SessionStatus},
};

/// A copy of all clusters, load assignments, listeners and routes that a server has.
///
/// A response is accepted or rejected only once the proxy behind the replica has answered for it ([`Self::relay`]), so
/// that the server's order of pushes is that of the proxy.
#[derive(Debug, Default)]
pub struct Replica {
    copy: Arc<Resources>,
    /// Responses not accepted or rejected yet; the server has one in flight per type.
    unanswered: BTreeMap<ResourceType, Unanswered>,
    /// Types that the server of this connection has answered for.
    answered: BTreeSet<ResourceType>,
    /// Types that a server has answered for, on this connection or one before.
    complete: BTreeSet<ResourceType>,
}

#[derive(Debug)]
struct Unanswered {
    nonce: String,
    names: BTreeSet<String>,
    /// The server of a new connection does not know yet what the proxy rejects.
    is_first: bool,
}

impl Replica {
    /// An empty copy.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first requests on a new connection: everything, minus what the copy already has.
    pub fn on_connect(&mut self) -> Vec<Request> {
        self.unanswered.clear();
        self.answered.clear();
        let subscribe = |ty: ResourceType| Request {
            initial_versions: self
                .copy
                .of(ty)
                .values()
                .map(|resource| (resource.name.clone(), resource.version.clone()))
                .collect(),
            ..Request::subscribe(ty, ["*"])
        };
        ResourceType::OF_CONTROLLER.into_iter().map(subscribe).collect()
    }

    /// Takes over what a response changes.
    pub fn on_response(&mut self, response: Response) {
        let mut names: BTreeSet<String> = response.removed.iter().cloned().collect();
        names.extend(response.resources.iter().map(|resource| resource.name.clone()));
        let copy = Arc::make_mut(&mut self.copy);
        for resource in response.resources {
            copy.insert(response.ty, resource);
        }
        for name in &response.removed {
            copy.remove(response.ty, name);
        }
        self.complete.insert(response.ty);
        let is_first = self.answered.insert(response.ty);
        self.unanswered.insert(response.ty, Unanswered { nonce: response.nonce, names, is_first });
    }

    /// Accepts or rejects the last response of this type; none if there is nothing to answer.
    pub fn acknowledge(&mut self, ty: ResourceType, error: Option<String>) -> Option<Request> {
        let nonce = self.unanswered.remove(&ty)?.nonce;
        Some(Request { nonce: Some(nonce), error, ..Request::empty(ty) })
    }

    /// Passes on what the proxy behind this copy has answered, given the status of the session with it.
    pub fn relay(&mut self, proxy: &SessionStatus) -> Vec<Request> {
        let answerable: Vec<ResourceType> =
            self.unanswered.keys().copied().filter(|ty| self.has_answered(proxy, *ty)).collect();
        let mut requests = Vec::new();
        for ty in answerable {
            let rejection = proxy.types.get(&ty).and_then(|status| status.rejected.as_ref());
            let error = rejection.filter(|rejection| self.concerns(ty, rejection)).map(|r| r.message.clone());
            requests.extend(self.acknowledge(ty, error));
        }
        requests
    }

    /// All that the server has told so far.
    pub fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.copy)
    }

    /// Whether a server has ever answered for all types; before that the copy may lack what its parts refer to.
    pub fn is_complete(&self) -> bool {
        ResourceType::OF_CONTROLLER.iter().all(|ty| self.complete.contains(ty))
    }

    fn has_answered(&self, proxy: &SessionStatus, ty: ResourceType) -> bool {
        let of = |ty: ResourceType| proxy.types.get(&ty);
        // A proxy that was not sent any cluster cannot ask for load assignments, and likewise for routes.
        let needed_first = match ty {
            ResourceType::Cluster | ResourceType::Endpoint => ResourceType::Cluster,
            ResourceType::Listener | ResourceType::Route => ResourceType::Listener,
            ResourceType::Secret => ResourceType::Secret,
        };
        of(needed_first).is_some_and(|status| status.subscribed)
            && of(ty).is_some_and(|status| status.is_idle() && status.version == self.copy.version_of(ty))
    }

    /// Whether the server should hear of this rejection with its present response.
    fn concerns(&self, ty: ResourceType, rejection: &Rejection) -> bool {
        self.unanswered.get(&ty).is_some_and(|response| {
            response.is_first || rejection.names.iter().any(|name| response.names.contains(name))
        })
    }
}
