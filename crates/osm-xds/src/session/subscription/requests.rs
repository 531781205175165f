//! What a client's request changes: its answer to the response in flight, and its wishes.

use std::collections::BTreeMap;

use super::{Scope, Subscription};
use crate::{
    message::Request,
    resources::{ResourceType, Resources},
};

const WILDCARD: &str = "*";

impl Subscription {
    /// Takes the answer and the change of subscription that a request holds.
    pub(in crate::session) fn on_request(&mut self, request: Request, resources: &Resources) {
        let is_first = !std::mem::replace(&mut self.is_started, true);
        if let Some(nonce) = &request.nonce {
            self.on_answer(nonce, request.error.as_deref());
        }
        // For historical reasons, a first request for clusters or listeners that names nothing wants all of them.
        let is_legacy_wildcard = is_first
            && request.nonce.is_none()
            && request.subscribe.is_empty()
            && matches!(self.ty, ResourceType::Cluster | ResourceType::Listener);
        if is_legacy_wildcard || !request.subscribe.is_empty() || !request.unsubscribe.is_empty() {
            let known = if is_first { request.initial_versions } else { BTreeMap::new() };
            // Names let go go first: a client that lets go and takes up a name at once wants it.
            self.unsubscribe(request.unsubscribe);
            if is_legacy_wildcard {
                self.subscribe(vec![WILDCARD.to_owned()], known, resources);
            } else {
                self.subscribe(request.subscribe, known, resources);
            }
            self.compare(resources);
        }
    }

    fn on_answer(&mut self, nonce: &str, error: Option<&str>) {
        // The answer to anything but the response in flight is stale.
        let Some(answered) = self.in_flight.take_if(|response| response.nonce == nonce) else { return };
        self.answered = Some(answered.resources);
        match error {
            None => {
                self.accepted += 1;
                self.rejections.forget(&answered.names);
            }
            Some(message) => {
                self.refused += 1;
                self.rejections.remember(answered.names, message);
                self.forget_unwanted();
            }
        }
    }

    fn unsubscribe(&mut self, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.is_wildcard = false;
            } else if self.names.remove(&name) && self.is_wildcard {
                // The client cannot know whether the wildcard still covers this name.
                self.asked.insert(name);
            }
        }
        self.forget_unwanted();
    }

    fn forget_unwanted(&mut self) {
        let (is_wildcard, names) = (self.is_wildcard, &self.names);
        self.told.retain(|name, _| is_wildcard || names.contains(name));
        self.asked.retain(|name| is_wildcard || names.contains(name));
        self.rejections.retain(|name| is_wildcard || names.contains(name));
    }

    fn subscribe(&mut self, names: Vec<String>, known: BTreeMap<String, String>, resources: &Resources) {
        for name in names {
            if name == WILDCARD {
                self.is_wildcard = true;
                // A client that has nothing yet has nothing that could break, so it need not wait for acceptance.
                self.greeting = Some(if known.is_empty() { Scope::Asked } else { Scope::Additions });
                if known.is_empty() && self.told.is_empty() {
                    self.asked.extend(resources.of(self.ty).keys().cloned());
                }
                self.told.extend(known.clone());
                continue;
            }
            match known.get(&name) {
                // A client that names load assignments may have a cluster warming, which needs its load assignment once
                // more; so it is sent even if the client has it.
                Some(version) if self.ty != ResourceType::Endpoint => {
                    self.told.insert(name.clone(), version.clone());
                }
                Some(_) | None => {
                    self.asked.insert(name.clone());
                }
            }
            self.names.insert(name);
        }
    }
}
