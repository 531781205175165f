//! What the watches said, and what that comes to: the state between lists, watches and the World. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use kube::core::DynamicObject;
use kube::runtime::watcher;
use osm_api::{Change, Kind, ObjectKey, Problem, closed_settings, read_object};
use serde_json::Value;

use super::failure::Failure;
use super::kinds::KINDS;
use super::value;
use crate::Event;

/// What the watch of one kind says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// A list begins.
    ListBegins,
    /// An object of the list.
    Listed(Value),
    /// The list is complete: what it did not hold is gone.
    ListEnds,
    /// An object is new or different.
    Applied(Value),
    /// An object is gone.
    Deleted(ObjectKey),
    /// The watch is lost, for now.
    Failed(Failure),
}

/// What was said so far, and what of it has not been passed on yet.
#[derive(Debug, Default)]
pub(super) struct Said {
    kinds: BTreeMap<Kind, OfKind>,
    was_in_sync: bool,
    changes: Vec<Change>,
    problems: BTreeMap<String, Vec<Problem>>,
    is_in_sync_due: bool,
}

#[derive(Debug, Default)]
struct OfKind {
    /// Every object that exists, each with whether it, as it was last understood, is in the World.
    known: BTreeMap<ObjectKey, bool>,
    /// The list that is under way. It counts when it is complete, and then all at once.
    list: Option<Vec<Value>>,
    is_in_sync: bool,
    /// The places that problems were said about.
    complained: BTreeSet<String>,
}

impl Heard {
    /// What an event of a watch says.
    pub(super) fn of(kind: Kind, event: watcher::Event<DynamicObject>) -> Heard {
        match event {
            watcher::Event::Init => Heard::ListBegins,
            watcher::Event::InitApply(object) => Heard::Listed(value(kind, object)),
            watcher::Event::InitDone => Heard::ListEnds,
            watcher::Event::Apply(object) => Heard::Applied(value(kind, object)),
            watcher::Event::Delete(object) => {
                let metadata = object.metadata;
                let namespace = metadata.namespace.unwrap_or_default();
                Heard::Deleted(ObjectKey::new(kind, &namespace, &metadata.name.unwrap_or_default()))
            }
        }
    }
}

impl Said {
    /// Takes in what the watch of one kind says.
    pub(super) fn take(&mut self, kind: Kind, heard: Heard) {
        match heard {
            Heard::ListBegins => self.of(kind).list = Some(Vec::new()),
            Heard::Listed(value) => self.of(kind).list.get_or_insert_default().push(value),
            Heard::ListEnds => {
                self.swap(kind);
                self.in_sync(kind);
            }
            Heard::Applied(value) => {
                self.set_problems(kind, place_of_watch(kind), Vec::new());
                self.apply(kind, value);
            }
            Heard::Deleted(key) => {
                self.set_problems(kind, place_of_watch(kind), Vec::new());
                self.delete(&key);
            }
            Heard::Failed(failure) => {
                // A list that failed begins anew.
                self.of(kind).list = None;
                if let Some(problem) = failure.problem {
                    self.set_problems(kind, place_of_watch(kind), vec![problem]);
                }
                if failure.is_not_served {
                    self.in_sync(kind);
                }
            }
        }
    }

    /// All that has not been said yet. Problems come first: they may be why something does not get in sync.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let problems = mem::take(&mut self.problems).into_iter();
        let mut events: Vec<Event> = problems.map(|(file, problems)| Event::Problems { file, problems }).collect();
        if !self.changes.is_empty() {
            events.push(Event::Changes(mem::take(&mut self.changes)));
        }
        if mem::take(&mut self.is_in_sync_due) {
            events.push(Event::InSync);
        }
        events
    }

    /// Makes the list that is complete all that exists of a kind.
    fn swap(&mut self, kind: Kind) {
        self.set_problems(kind, place_of_watch(kind), Vec::new());
        let list = self.of(kind).list.take().unwrap_or_default();
        let listed: BTreeSet<ObjectKey> = list.iter().map(|value| key(kind, value)).collect();
        let gone: Vec<ObjectKey> = self.of(kind).known.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.delete(&key);
        }
        for value in list {
            self.apply(kind, value);
        }
    }

    /// An object that cannot be understood keeps what it said before. Except for a grant, which then admits nobody, and
    /// for settings that never could be understood: in their place stand those that let nobody in.
    fn apply(&mut self, kind: Kind, value: Value) {
        let key = key(kind, &value);
        let reading = read_object(value);
        let was_in_world = self.of(kind).known.get(&key).copied().unwrap_or(false);
        let change = match reading.object {
            Some(object) => Some(Change::Apply(Box::new(object), None)),
            None if kind.grants_access() && was_in_world => Some(Change::Delete(key.clone())),
            None if kind == Kind::MeshConfig && !was_in_world => {
                Some(Change::Apply(Box::new(closed_settings(&key)), None))
            }
            None => None,
        };
        let is_in_world = match &change {
            Some(Change::Apply(..)) => true,
            Some(Change::Delete(_)) => false,
            None => was_in_world,
        };
        self.changes.extend(change);
        self.set_problems(kind, place_of(&key), reading.problems);
        self.of(kind).known.insert(key, is_in_world);
    }

    fn delete(&mut self, key: &ObjectKey) {
        if self.of(key.kind).known.remove(key) == Some(true) {
            self.changes.push(Change::Delete(key.clone()));
        }
        self.set_problems(key.kind, place_of(key), Vec::new());
    }

    fn set_problems(&mut self, kind: Kind, place: String, problems: Vec<Problem>) {
        let complained = &mut self.of(kind).complained;
        if problems.is_empty() {
            if complained.remove(&place) {
                self.problems.insert(place, problems);
            }
            return;
        }
        complained.insert(place.clone());
        self.problems.insert(place, problems);
    }

    fn in_sync(&mut self, kind: Kind) {
        self.of(kind).is_in_sync = true;
        let is_all = KINDS.iter().all(|kind| self.kinds.get(kind).is_some_and(|of| of.is_in_sync));
        if is_all && !self.was_in_sync {
            self.was_in_sync = true;
            self.is_in_sync_due = true;
        }
    }

    fn of(&mut self, kind: Kind) -> &mut OfKind {
        self.kinds.entry(kind).or_default()
    }
}

fn key(kind: Kind, value: &Value) -> ObjectKey {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    ObjectKey::new(kind, text("namespace"), text("name"))
}

/// Under what the problems of an object are said.
fn place_of(key: &ObjectKey) -> String {
    format!("cluster: {key}")
}

/// Under what it is said that a watch is lost.
fn place_of_watch(kind: Kind) -> String {
    format!("cluster: {kind}")
}

#[cfg(test)]
mod tests;
