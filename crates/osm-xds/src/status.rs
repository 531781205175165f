//! What a session can say about itself: what is under way, what waits, what the client rejected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resources::ResourceType;

/// The state of one session, for readiness, reasons and debugging. The default is that of no session at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Every type, once there is a session.
    pub types: BTreeMap<ResourceType, TypeStatus>,
}

/// The state of one resource type in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeStatus {
    /// Whether the client has asked for anything of this type.
    pub subscribed: bool,
    /// [`crate::Resources::version_of`] this type in the set that the session is bringing the client to.
    pub version: String,
    /// Whether a response waits to be accepted or rejected.
    pub in_flight: bool,
    /// Names that the client has not been sent yet in their present version.
    pub waiting: Vec<String>,
    /// Names that are gone, but that the client has not been told to drop yet.
    pub leaving: Vec<String>,
    /// Names that exist, but that the client has not asked for.
    pub unrequested: Vec<String>,
    /// How many responses the client has accepted.
    pub accepted: u64,
    /// How many responses the client has rejected.
    pub refused: u64,
    /// What the client rejected and has not accepted since, one entry for each of its messages.
    pub rejected: Vec<Rejection>,
}

/// A configuration that the client refused; it goes on with its last good one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The resources: those that the client's message names, else all of the rejected response.
    pub names: Vec<String>,
    /// The client's own words.
    pub message: String,
}

impl SessionStatus {
    /// The state of one type; that of a type never asked for, if there is no session.
    pub fn of(&self, ty: ResourceType) -> TypeStatus {
        self.types.get(&ty).cloned().unwrap_or_default()
    }

    /// Whether the client has answered everything that there is to say to it: it subscribes to clusters and listeners,
    /// it has asked for every load assignment and every route, and nothing waits or is in flight.
    ///
    /// A rejected resource counts as answered; see [`Self::rejected`].
    pub fn is_settled(&self) -> bool {
        let calm = self.types.values().all(|status| status.is_idle() && status.leaving.is_empty());
        let asked = |ty| self.types.get(&ty).is_some_and(|status| status.subscribed);
        // A client accepts a cluster or a listener just before it asks for what belongs to it; without this check the
        // moment in between would look settled.
        let complete = |ty| self.types.get(&ty).is_some_and(|status| status.unrequested.is_empty());
        calm && asked(ResourceType::Cluster)
            && asked(ResourceType::Listener)
            && complete(ResourceType::Endpoint)
            && complete(ResourceType::Route)
    }

    /// What the client rejects at present, by type.
    pub fn rejected(&self) -> impl Iterator<Item = (ResourceType, &Rejection)> {
        self.types.iter().flat_map(|(ty, status)| status.rejected.iter().map(|rejection| (*ty, rejection)))
    }
}

impl TypeStatus {
    /// Whether the client has answered for all that exists of this type and that it wants.
    pub fn is_idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}
