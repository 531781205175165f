//! The two messages of delta xDS, free of the wire's encoding.

use std::{collections::BTreeMap, sync::Arc};

use crate::resources::{Resource, ResourceType};

/// What a client sends (`DeltaDiscoveryRequest`): a change of subscription, an answer to a response, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type that all of it is about.
    pub ty: ResourceType,
    /// Names to subscribe to; `*` is everything.
    pub subscribe: Vec<String>,
    /// Names to let go.
    pub unsubscribe: Vec<String>,
    /// Versions the client already has, by name. Only the first request of a type on a stream may say this.
    pub initial_versions: BTreeMap<String, String>,
    /// The response that this accepts or rejects; none if this only changes the subscription.
    pub nonce: Option<String>,
    /// Why the response is rejected; none if it is accepted.
    pub error: Option<String>,
}

/// What a server sends (`DeltaDiscoveryResponse`): what changed of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The type that all of it is about.
    pub ty: ResourceType,
    /// Names this response, so that the client can accept or reject it.
    pub nonce: String,
    /// New and changed resources, by name.
    pub resources: Vec<Arc<Resource>>,
    /// Names that do not exist (any more).
    pub removed: Vec<String>,
}

impl Request {
    /// A change of subscription.
    pub fn subscribe(ty: ResourceType, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { subscribe: names.into_iter().map(Into::into).collect(), ..Self::empty(ty) }
    }

    /// Lets names go.
    pub fn unsubscribe(ty: ResourceType, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { unsubscribe: names.into_iter().map(Into::into).collect(), ..Self::empty(ty) }
    }

    /// Accepts the response with this nonce.
    pub fn accept(ty: ResourceType, nonce: impl Into<String>) -> Self {
        Self { nonce: Some(nonce.into()), ..Self::empty(ty) }
    }

    /// Rejects the response with this nonce, saying why.
    pub fn reject(ty: ResourceType, nonce: impl Into<String>, error: impl Into<String>) -> Self {
        Self { nonce: Some(nonce.into()), error: Some(error.into()), ..Self::empty(ty) }
    }

    /// Says nothing yet. As the first request for clusters or listeners it subscribes to all of them.
    pub fn empty(ty: ResourceType) -> Self {
        Self {
            ty,
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            initial_versions: BTreeMap::new(),
            nonce: None,
            error: None,
        }
    }
}
