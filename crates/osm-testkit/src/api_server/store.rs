//! The objects of the test's API server, and what happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Objects by path, in order, and every change since the last compaction.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<String, Value>,
    events: Vec<StoredEvent>,
    version: u64,
    compacted: u64,
    failing: BTreeMap<String, u16>,
    reviews: BTreeMap<String, Value>,
    requests: Vec<String>,
}

#[derive(Clone, Debug)]
struct StoredEvent {
    version: u64,
    path: String,
    line: Value,
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    pub(super) version: u64,
    /// Where the next page begins.
    pub(super) next: Option<usize>,
}

impl Store {
    pub(super) fn put(&mut self, mut object: Value) {
        let path = path_of(&object);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            let uid = format!("uid-of-{}", object["metadata"]["name"].as_str().unwrap_or_default());
            object["metadata"]["uid"] = uid.into();
        }
        let ty = if self.objects.contains_key(&path) { "MODIFIED" } else { "ADDED" };
        self.objects.insert(path.clone(), object.clone());
        self.note(path, ty, object);
    }

    /// Creates an object; false if there is one already.
    pub(super) fn create(&mut self, object: Value) -> bool {
        let is_new = !self.objects.contains_key(&path_of(&object));
        if is_new {
            self.put(object);
        }
        is_new
    }

    pub(super) fn delete(&mut self, path: &str) {
        let mut object = self.objects.remove(path).unwrap_or_else(|| panic!("nothing to delete at {path}"));
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.note(path.to_owned(), "DELETED", object);
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.objects.get(path)
    }

    pub(super) fn list(&self, path: &str) -> Vec<Value> {
        self.objects.iter().filter(|(of, _)| is_below(of, path)).map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn page(&self, path: &str, start: usize, limit: usize) -> Page {
        let all = self.list(path);
        let next = (start + limit < all.len()).then_some(start + limit);
        Page { items: all.into_iter().skip(start).take(limit).collect(), version: self.version, next }
    }

    /// The lines of a watch that has seen everything up to `version`; none if that is no longer known.
    pub(super) fn since(&self, path: &str, version: u64) -> Option<(Vec<Value>, u64)> {
        if version < self.compacted {
            return None;
        }
        let new = self.events.iter().filter(|event| event.version > version && is_below(&event.path, path));
        Some((new.map(|event| event.line.clone()).collect(), self.version))
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.events.clear();
    }

    pub(super) fn fail(&mut self, plural: &str, code: u16) {
        self.failing.insert(plural.to_owned(), code);
    }

    /// The code that this path is to fail with.
    pub(super) fn failure(&self, path: &str) -> Option<u16> {
        let plural = path.rsplit('/').next().unwrap_or_default();
        self.failing.get(plural).copied().filter(|code| *code != 0)
    }

    pub(super) fn answer_review(&mut self, token: &str, status: Value) {
        self.reviews.insert(token.to_owned(), status);
    }

    pub(super) fn review(&self, token: &str) -> Value {
        let unknown = || json!({ "authenticated": false, "error": "the token is not one of this cluster" });
        self.reviews.get(token).cloned().unwrap_or_else(unknown)
    }

    pub(super) fn note_request(&mut self, request: String) {
        self.requests.push(request);
    }

    pub(super) fn count_requests(&self, words: &str) -> usize {
        self.requests.iter().filter(|request| request.contains(words)).count()
    }

    fn note(&mut self, path: String, ty: &str, object: Value) {
        self.events.push(StoredEvent { version: self.version, path, line: json!({ "type": ty, "object": object }) });
    }
}

/// Where an object is: `/apis/<group>/<version>/namespaces/<namespace>/<plural>/<name>`.
fn path_of(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = format!("{}s", kind.to_lowercase());
    match text("/metadata/namespace") {
        "" => format!("{root}/{plural}/{}", text("/metadata/name")),
        namespace => format!("{root}/namespaces/{namespace}/{plural}/{}", text("/metadata/name")),
    }
}

/// Whether the object at `path` is in the list at `list`, which is of one namespace or of all.
fn is_below(path: &str, list: &str) -> bool {
    let Some((collection, _)) = path.rsplit_once('/') else { return false };
    if collection == list {
        return true;
    }
    let Some((root, plural)) = list.rsplit_once('/') else { return false };
    let namespaced = collection.strip_prefix(root).and_then(|rest| rest.strip_prefix("/namespaces/"));
    namespaced.and_then(|rest| rest.split_once('/')).is_some_and(|(_, of)| of == plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_one_namespace_or_of_all() {
        let pod = "/api/v1/namespaces/shop/pods/web";
        assert!(is_below(pod, "/api/v1/pods") && is_below(pod, "/api/v1/namespaces/shop/pods"));
        assert!(!is_below(pod, "/api/v1/namespaces/other/pods") && !is_below(pod, "/api/v1/services"));
        assert!(is_below("/api/v1/namespaces/shop", "/api/v1/namespaces"));
        assert!(!is_below(pod, "/api/v1/namespaces"));
    }
}
