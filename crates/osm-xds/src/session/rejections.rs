//! What a client rejected of one type and has not accepted since.

use std::collections::BTreeMap;

use crate::{mention::mentions, status::Rejection};

/// Longest part of a client's message that is kept, in bytes: it comes from outside.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The client's words, by the name they are about. Bounded by the names that the client subscribes to.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    by_name: BTreeMap<String, String>,
    /// A rejection of a response that held nothing that the client still wants.
    nameless: Option<String>,
}

impl Rejections {
    /// Notes that the client rejected a response that held these names.
    pub(super) fn remember(&mut self, names: Vec<String>, message: &str) {
        let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
        if names.is_empty() {
            self.nameless = Some(message.to_owned());
            return;
        }
        // Envoy applies what it can of a response and names what it could not.
        let named: Vec<&String> = names.iter().filter(|name| mentions(message, name)).collect();
        let blamed = if named.is_empty() { names.iter().collect() } else { named };
        self.by_name.retain(|name, _| !names.contains(name));
        self.by_name.extend(blamed.into_iter().map(|name| (name.clone(), message.to_owned())));
    }

    /// Notes that the client accepted a response that held these names.
    pub(super) fn forget(&mut self, names: &[String]) {
        self.nameless = None;
        for name in names {
            self.by_name.remove(name);
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.by_name.retain(|name, _| keep(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.nameless.is_none()
    }

    /// One rejection for each message.
    pub(super) fn list(&self) -> Vec<Rejection> {
        let nameless = self.nameless.iter().map(|message| (message, Vec::new()));
        let mut by_message: BTreeMap<&String, Vec<String>> = nameless.collect();
        for (name, message) in &self.by_name {
            by_message.entry(message).or_default().push(name.clone());
        }
        by_message.into_iter().map(|(message, names)| Rejection { names, message: message.clone() }).collect()
    }
}
