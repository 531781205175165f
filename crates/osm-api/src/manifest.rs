//! Manifests: YAML text in, objects and problems out.
//!
//! [`ManifestSet`] remembers what each file holds and says what changed. A broken document never takes another with
//! it, and what a file held before it broke stays until the file can be understood again.

mod document;

use std::collections::BTreeMap;

use crate::{Change, Object, ObjectKey, Origin, Problem, Reason};

pub(crate) use document::parse;

/// The objects of a set of files, each owned by the first file (in order of names) that holds it.
#[derive(Clone, Debug, Default)]
pub struct ManifestSet {
    files: BTreeMap<String, Vec<(Object, Origin)>>,
    owned: BTreeMap<ObjectKey, (Object, Origin)>,
}

/// What a new text of one file comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// What changed against the set before.
    pub changes: Vec<Change>,
    /// What is wrong in this file.
    pub problems: Vec<Problem>,
}

impl ManifestSet {
    /// Takes in the text of one file, new or changed. `.json` files may be given too: JSON is YAML.
    pub fn put(&mut self, file: &str, text: &str) -> Update {
        let parsed = parse(file, text);
        let mut problems = parsed.problems;
        let mut objects: Vec<(Object, Origin)> = Vec::new();
        let mut seen: BTreeMap<ObjectKey, Origin> = BTreeMap::new();
        for (object, origin) in parsed.objects {
            let key = object.key();
            let elsewhere = self.owned.get(&key).map(|(_, o)| o).filter(|o| o.file != file);
            if let Some(first) = seen.get(&key).or(elsewhere) {
                problems.push(
                    Problem::new(&key, Reason::Duplicate, format!("defined a second time; the first is in {first}"))
                        .with_hint("keep one of the two; the first counts")
                        .with_origin(Some(origin.clone())),
                );
            }
            if seen.contains_key(&key) {
                continue;
            }
            seen.insert(key, origin.clone());
            objects.push((object, origin));
        }
        if parsed.is_broken {
            let before = self.files.remove(file).unwrap_or_default();
            objects.extend(before.into_iter().filter(|(object, _)| !seen.contains_key(&object.key())));
        }
        self.files.insert(file.to_owned(), objects);
        Update { changes: self.recompute(), problems }
    }

    /// Takes in that a file is gone.
    pub fn remove(&mut self, file: &str) -> Update {
        self.files.remove(file);
        Update { changes: self.recompute(), problems: Vec::new() }
    }

    /// The names of the files in the set.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn recompute(&mut self) -> Vec<Change> {
        let mut owned: BTreeMap<ObjectKey, (Object, Origin)> = BTreeMap::new();
        for (object, origin) in self.files.values().flatten() {
            owned.entry(object.key()).or_insert_with(|| (object.clone(), origin.clone()));
        }
        let gone = self.owned.keys().filter(|key| !owned.contains_key(key)).cloned();
        let mut changes: Vec<Change> = gone.map(Change::Delete).collect();
        for (key, (object, origin)) in &owned {
            if self.owned.get(key).is_none_or(|(old, _)| old != object) {
                changes.push(Change::Apply(Box::new(object.clone()), Some(origin.clone())));
            }
        }
        self.owned = owned;
        changes
    }
}

#[cfg(test)]
mod tests;
