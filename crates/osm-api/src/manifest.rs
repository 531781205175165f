//! Manifests: YAML text in, objects and problems out.
//!
//! [`ManifestSet`] remembers what each file holds and says what changed. A broken document never takes another with
//! it, and what a file held before it broke stays until the file can be understood again. Except for grants: one that
//! is there and cannot be understood admits nobody, whatever it said before.

mod document;

use std::collections::{BTreeMap, BTreeSet};

use crate::{Change, Kind, MeshConfig, Object, ObjectKey, Origin, Problem, Reason, k8s};

pub(crate) use document::{parse, parse_value};

/// The objects of a set of files, each owned by the first file (in order of names) that holds it.
#[derive(Clone, Debug, Default)]
pub struct ManifestSet {
    /// What each file says of each object; the first file counts.
    claims: BTreeMap<ObjectKey, BTreeMap<String, (Object, Origin)>>,
    /// The objects that each file holds, so that a change of one file costs what that file holds.
    files: BTreeMap<String, BTreeSet<ObjectKey>>,
}

/// What a new text of one file comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// What changed against the set before.
    pub changes: Vec<Change>,
    /// What is wrong in this file.
    pub problems: Vec<Problem>,
}

/// What the API server says that one object is.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The object, if it can be understood.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Reads one object as the API server gives it, `apiVersion` and `kind` included.
///
/// The API server has checked the spelling of fields: one that we do not know is newer than we are, and no problem,
/// except where it may narrow what is granted.
pub fn read_object(value: serde_json::Value) -> Reading {
    let parsed = parse_value(value);
    let mut problems = parsed.problems;
    problems.retain(|problem| problem.reason != Reason::UnknownField);
    Reading { object: parsed.objects.into_iter().next().map(|(object, _)| object), problems }
}

impl ManifestSet {
    /// Takes in the text of one file, new or changed. `.json` files may be given too: JSON is YAML.
    pub fn put(&mut self, file: &str, text: &str) -> Update {
        let parsed = parse(file, text);
        let mut problems = parsed.problems;
        let mut objects: BTreeMap<ObjectKey, (Object, Origin)> = BTreeMap::new();
        for (object, origin) in parsed.objects {
            let key = object.key();
            let first = objects.get(&key).map(|(_, origin)| origin).or_else(|| self.elsewhere(&key, file));
            if let Some(first) = first {
                problems.push(
                    Problem::new(&key, Reason::Duplicate, format!("defined a second time; the first is in {first}"))
                        .with_hint("keep one of the two; the first counts")
                        .with_origin(Some(origin.clone())),
                );
            }
            objects.entry(key).or_insert((object, origin));
        }
        if parsed.is_broken {
            // What the file held before may still be meant; it stays until the file can be understood.
            let is_withdrawn = |key: &ObjectKey| key.kind.grants_access() && parsed.refused.contains_key(key);
            for key in self.files.get(file).into_iter().flatten() {
                if !objects.contains_key(key) && !is_withdrawn(key) {
                    objects.insert(key.clone(), self.claims[key][file].clone());
                }
            }
        }
        for (key, origin) in parsed.refused {
            if key.kind == Kind::MeshConfig && !objects.contains_key(&key) && !self.claims.contains_key(&key) {
                objects.insert(key.clone(), (closed_settings(&key), origin));
            }
        }
        Update { changes: self.replace(file, objects), problems }
    }

    /// Takes in that a file is gone.
    pub fn remove(&mut self, file: &str) -> Update {
        let changes = self.replace(file, BTreeMap::new());
        self.files.remove(file);
        Update { changes, problems: Vec::new() }
    }

    /// The names of the files in the set.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Where another file defines the object, if one does and is the one that counts.
    fn elsewhere(&self, key: &ObjectKey, file: &str) -> Option<&Origin> {
        let (owner, (_, origin)) = self.claims.get(key)?.first_key_value()?;
        (owner != file).then_some(origin)
    }

    /// Makes `objects` all that the file holds, and says what that changes.
    fn replace(&mut self, file: &str, objects: BTreeMap<ObjectKey, (Object, Origin)>) -> Vec<Change> {
        let held = self.files.insert(file.to_owned(), objects.keys().cloned().collect()).unwrap_or_default();
        let mut changes = Vec::new();
        for key in held.iter().filter(|key| !objects.contains_key(key)) {
            changes.extend(self.claim(key, file, None));
        }
        for (key, object) in objects {
            changes.extend(self.claim(&key, file, Some(object)));
        }
        changes
    }

    /// Sets what one file says of one object, and says whether that changes what counts.
    fn claim(&mut self, key: &ObjectKey, file: &str, object: Option<(Object, Origin)>) -> Option<Change> {
        let claims = self.claims.entry(key.clone()).or_default();
        let before = claims.first_key_value().map(|(_, (object, _))| object.clone());
        match object {
            Some(object) => claims.insert(file.to_owned(), object),
            None => claims.remove(file),
        };
        let now = claims.first_key_value().map(|(_, claim)| claim.clone());
        if now.is_none() {
            self.claims.remove(key);
        }
        match (before, now) {
            (None, None) => None,
            (Some(_), None) => Some(Change::Delete(key.clone())),
            (Some(before), Some((now, _))) if before == now => None,
            (_, Some((now, origin))) => Some(Change::Apply(Box::new(now), Some(origin))),
        }
    }
}

/// The settings in place of some that are written down, cannot be understood and never could: without any, the mesh is
/// permissive, and it must not open because of a typing error.
pub fn closed_settings(key: &ObjectKey) -> Object {
    let (namespace, name) = (Some(key.namespace.clone()), Some(key.name.clone()));
    let metadata = k8s::ObjectMeta { namespace, name, ..Default::default() };
    Object::MeshConfig(MeshConfig { metadata, ..Default::default() })
}

#[cfg(test)]
mod tests;
