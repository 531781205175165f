//! The client's side of delta xDS: a copy of what a controller tells, which outlives the connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    mention::without,
    message::{Request, Response},
    resources::{Resource, ResourceType, Resources},
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
    /// Types that a server has answered for, on this connection or one before.
    complete: BTreeSet<ResourceType>,
    /// Types that the server has answered for on this connection.
    answered: BTreeSet<ResourceType>,
}

#[derive(Debug)]
struct Unanswered {
    nonce: String,
    /// What was new or changed in it.
    added: BTreeSet<String>,
    removed: Vec<String>,
}

impl Replica {
    /// An empty copy.
    pub fn new() -> Self {
        Self::default()
    }

    /// A complete copy from an earlier life. A server sends what it says differently, and names what is gone.
    pub fn from_earlier(copy: Arc<Resources>) -> Self {
        Self { copy, complete: ResourceType::OF_CONTROLLER.into(), ..Self::default() }
    }

    /// The first requests on a new connection: everything, minus what the copy already has.
    ///
    /// What `proxy` rejects is listed without its version, so that it is sent once more: a server can be told of a
    /// rejection only in answer to what it has sent on the same connection.
    pub fn on_connect(&mut self, proxy: &SessionStatus) -> Vec<Request> {
        self.unanswered.clear();
        self.answered.clear();
        let subscribe = |ty: ResourceType| {
            let rejected: BTreeSet<&String> = rejections(proxy, ty).flat_map(|rejection| &rejection.names).collect();
            let version = |resource: &Resource| match rejected.contains(&resource.name) {
                true => String::new(),
                false => resource.version.clone(),
            };
            let known = self.copy.of(ty).values().map(|resource| (resource.name.clone(), version(resource)));
            Request { initial_versions: known.collect(), ..Request::subscribe(ty, ["*"]) }
        };
        ResourceType::OF_CONTROLLER.into_iter().map(subscribe).collect()
    }

    /// Takes over what a response changes.
    pub fn on_response(&mut self, response: Response) {
        let added = response.resources.iter().map(|resource| resource.name.clone()).collect();
        let copy = Arc::make_mut(&mut self.copy);
        for resource in response.resources {
            copy.insert(response.ty, resource);
        }
        for name in &response.removed {
            copy.remove(response.ty, name);
        }
        self.complete.insert(response.ty);
        self.answered.insert(response.ty);
        self.unanswered.insert(response.ty, Unanswered { nonce: response.nonce, added, removed: response.removed });
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
            let error = self.error_for(proxy, ty);
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

    /// Whether the server has answered for all types since the last [`Self::on_connect`]: the copy is its present word.
    ///
    /// A server answers a client that has an earlier copy for listeners and routes only when the client has accepted
    /// the clusters and load assignments before them, so what came last is no older than what came first.
    pub fn is_current(&self) -> bool {
        ResourceType::OF_CONTROLLER.iter().all(|ty| self.answered.contains(ty))
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

    /// What the proxy says against the response to answer; what else it rejects was in other responses.
    fn error_for(&self, proxy: &SessionStatus, ty: ResourceType) -> Option<String> {
        let Unanswered { added, removed, .. } = self.unanswered.get(&ty)?;
        let concerns = |rejection: &&Rejection| rejection.names.iter().any(|name| added.contains(name));
        let messages: Vec<&str> = rejections(proxy, ty).filter(concerns).map(|r| r.message.as_str()).collect();
        // The server takes the names in the text for those rejected, but the proxy may have accepted some of them since.
        let is_rejected = |name: &String| rejections(proxy, ty).any(|rejection| rejection.names.contains(name));
        let blameless = added.iter().filter(|name| !is_rejected(name)).chain(removed);
        let error = blameless.fold(messages.join("; "), |text, name| without(&text, name));
        (!messages.is_empty()).then_some(error)
    }
}

fn rejections(proxy: &SessionStatus, ty: ResourceType) -> impl Iterator<Item = &Rejection> {
    proxy.types.get(&ty).into_iter().flat_map(|status| &status.rejected)
}
