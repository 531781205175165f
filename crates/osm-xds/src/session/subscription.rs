//! One resource type in a session: what the client wants, what it was told, what is owed to it.

mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rejections::Rejections;
use crate::{
    message::Response,
    resources::{ResourceType, Resources},
    status::TypeStatus,
};

/// The state of one type. `changed` and `gone` always follow from `told`, the subscription and the resources.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) ty: ResourceType,
    /// Whether the client has sent any request of this type.
    is_started: bool,
    /// Whether the client wants everything that exists.
    is_wildcard: bool,
    /// What the client wants by name, whether it exists or not.
    names: BTreeSet<String>,
    /// The first answer to a wildcard is sent even if it is empty: the client waits for it. This is the least scope in
    /// which it may go.
    greeting: Option<Scope>,
    /// Versions the client was told last, whether it accepted them or not: a rejected one is not sent again.
    told: BTreeMap<String, String>,
    /// Names to answer for although the client may have their present version.
    asked: BTreeSet<String>,
    /// Names that exist in a version other than the one told.
    changed: BTreeSet<String>,
    /// Names that were told and exist no more.
    gone: BTreeSet<String>,
    in_flight: Option<InFlight>,
    rejections: Rejections,
    /// What there was of this type when the response was made that the client has answered last.
    answered: Option<Arc<Resources>>,
    accepted: u64,
    refused: u64,
}

/// How much of what is owed may be sent now; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Nothing,
    /// What the client asks for by name.
    Asked,
    /// New and changed resources too.
    Additions,
    /// Removals too.
    Everything,
}

/// A response that the client has not answered yet.
#[derive(Debug)]
struct InFlight {
    nonce: String,
    names: Vec<String>,
    /// What there was of this type when it was made.
    resources: Arc<Resources>,
}

impl Subscription {
    pub(super) fn new(ty: ResourceType) -> Self {
        Self {
            ty,
            is_started: false,
            is_wildcard: false,
            names: BTreeSet::new(),
            greeting: None,
            told: BTreeMap::new(),
            asked: BTreeSet::new(),
            changed: BTreeSet::new(),
            gone: BTreeSet::new(),
            in_flight: None,
            rejections: Rejections::default(),
            answered: None,
            accepted: 0,
            refused: 0,
        }
    }

    /// Answers for these names once more, if the client wants them by name.
    pub(super) fn ask_again<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.asked.extend(names.filter(|name| self.names.contains(*name)).map(str::to_owned));
    }

    /// Works out anew what is owed.
    pub(super) fn compare(&mut self, resources: &Resources) {
        let existing = resources.of(self.ty);
        self.changed = existing
            .values()
            .filter(|resource| self.wants(&resource.name) && self.told.get(&resource.name) != Some(&resource.version))
            .map(|resource| resource.name.clone())
            .collect();
        self.gone = self.told.keys().filter(|name| !existing.contains_key(*name)).cloned().collect();
    }

    /// The response with what is owed and in scope, unless there is nothing, or one is in flight.
    pub(super) fn respond(&mut self, scope: Scope, nonce: String, resources: &Resources) -> Option<Response> {
        if self.in_flight.is_some() || scope == Scope::Nothing {
            return None;
        }
        let mut names = self.take_asked(resources);
        if scope >= Scope::Additions {
            names.append(&mut self.changed);
        }
        if scope >= Scope::Everything {
            names.append(&mut self.gone);
        }
        let greets = self.greeting.take_if(|least| scope >= *least).is_some();
        let mut response = Response { ty: self.ty, nonce, resources: Vec::new(), removed: Vec::new() };
        for name in names {
            self.changed.remove(&name);
            self.gone.remove(&name);
            if let Some(resource) = resources.get(self.ty, &name) {
                self.told.insert(name, resource.version.clone());
                response.resources.push(resource.clone());
            } else if self.told.remove(&name).is_some() || self.names.contains(&name) {
                response.removed.push(name);
            }
        }
        if response.resources.is_empty() && response.removed.is_empty() && !greets {
            return None;
        }
        let sent = response.resources.iter().map(|resource| resource.name.clone());
        let names = sent.chain(response.removed.iter().cloned()).collect();
        let mut all = Resources::default();
        all.take_type_from(self.ty, resources);
        self.in_flight = Some(InFlight { nonce: response.nonce.clone(), names, resources: Arc::new(all) });
        Some(response)
    }

    /// What the client asks for and can be answered. That a secret does not exist (yet) is not said: Envoy would go on
    /// without it, and serve before it can.
    fn take_asked(&mut self, resources: &Resources) -> BTreeSet<String> {
        let asked = std::mem::take(&mut self.asked);
        if self.ty != ResourceType::Secret {
            return asked;
        }
        let is_answerable = |name: &String| resources.get(self.ty, name).is_some() || self.told.contains_key(name);
        let (answerable, waiting) = asked.into_iter().partition(is_answerable);
        self.asked = waiting;
        answerable
    }

    fn wants(&self, name: &str) -> bool {
        self.is_wildcard || self.names.contains(name)
    }

    pub(super) fn owes_additions(&self) -> bool {
        !self.changed.is_empty() || !self.asked.is_empty() || self.greeting.is_some()
    }

    pub(super) fn owes_removals(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Whether the client has answered for all additions.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_none() && !self.owes_additions()
    }

    /// Whether the client has asked for this type, if there is anything of it.
    pub(super) fn is_known(&self, resources: &Resources) -> bool {
        self.is_started || resources.of(self.ty).is_empty()
    }

    /// Whether the client surely uses nothing of this type but what exists, so that what only older resources refer to
    /// can go. A client that rejected something still uses what was before; one that has just connected and has not yet
    /// asked for this type may use anything; and one that has accepted a listener uses the one before until it has
    /// asked for and got the routes of the new one.
    pub(super) fn lets_go(&self, resources: &Resources) -> bool {
        let is_known = match self.ty {
            // A client always asks for listeners; routes only if a listener refers to some.
            ResourceType::Route => self.is_known(resources),
            ResourceType::Cluster | ResourceType::Endpoint | ResourceType::Listener | ResourceType::Secret => {
                self.is_started
            }
        };
        is_known
            && resources.of(self.ty).keys().all(|name| self.wants(name))
            && self.is_answered()
            && !self.owes_removals()
            && self.rejections.is_empty()
    }

    /// What a client that wants everything has answered for: a response holds all that had changed until then, as far
    /// as it may be sent, and there is one in flight at most.
    pub(super) fn answered_all(&self) -> Option<&Arc<Resources>> {
        self.answered.as_ref().filter(|_| self.is_wildcard && self.names.is_empty())
    }

    pub(super) fn subscribed_names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn status(&self, resources: &Resources) -> TypeStatus {
        TypeStatus {
            subscribed: self.is_wildcard || !self.names.is_empty(),
            version: resources.version_of(self.ty),
            in_flight: self.in_flight.is_some() || self.greeting.is_some(),
            waiting: self.changed.union(&self.asked).cloned().collect(),
            leaving: self.gone.iter().cloned().collect(),
            unrequested: resources.of(self.ty).keys().filter(|name| !self.wants(name)).cloned().collect(),
            accepted: self.accepted,
            refused: self.refused,
            rejected: self.rejections.list(),
        }
    }
}
