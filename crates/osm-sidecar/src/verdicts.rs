//! What Envoy accepted and what it refused, so that a new process of Envoy gets the last good version of what its
//! predecessor refused: without this, a rejected listener would cost nothing until Envoy dies, and then everything.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_xds::{Rejection, Resource, ResourceType, Resources, SessionStatus};

use crate::gate::Rejected;

/// The memory of Envoy's answers, over its runs.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    accepted: Resources,
    refused: BTreeMap<(ResourceType, String), Refused>,
    /// The part of `refused` that the present run gets in its last good version.
    replaced: BTreeMap<(ResourceType, String), Refused>,
    run: u64,
}

/// Something that Envoy refused, and what it runs in its place: all that has to be remembered besides the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of resource.
    pub ty: ResourceType,
    /// The resource.
    pub name: String,
    /// The version that was refused.
    pub version: String,
    /// Envoy's own words.
    pub message: String,
    /// The last version that Envoy accepted, if it ever did.
    pub good: Option<Arc<Resource>>,
}

/// A version that Envoy does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    version: String,
    message: String,
}

impl Verdicts {
    /// The memory of an earlier life, in which Envoy had answered for all of `copy`.
    pub fn restored(copy: &Resources, refusals: &[Refusal]) -> Verdicts {
        let mut verdicts = Verdicts { accepted: copy.clone(), ..Verdicts::default() };
        for Refusal { ty, name, version, message, good } in refusals {
            verdicts.accepted.remove(*ty, name);
            if let Some(good) = good {
                verdicts.accepted.insert(*ty, good.clone());
            }
            let refused = Refused { version: version.clone(), message: message.clone() };
            verdicts.refused.insert((*ty, name.clone()), refused);
        }
        verdicts
    }

    /// What Envoy refused of the controller's `copy`.
    pub fn refusals(&self, copy: &Resources) -> Vec<Refusal> {
        let is_of_copy = |ty: ResourceType, name: &str, refused: &Refused| {
            copy.get(ty, name).is_some_and(|r| r.version == refused.version)
        };
        let refusals = self.refused.iter().filter(|((ty, name), refused)| is_of_copy(*ty, name, refused));
        let refusals = refusals.map(|((ty, name), refused)| Refusal {
            ty: *ty,
            name: name.clone(),
            version: refused.version.clone(),
            message: refused.message.clone(),
            good: self.accepted.get(*ty, name).cloned(),
        });
        refusals.collect()
    }

    /// Whether Envoy has a version of this that it accepted.
    pub fn has_accepted(&self, ty: ResourceType, name: &str) -> bool {
        self.accepted.get(ty, name).is_some()
    }

    /// What this run of Envoy is to be given of `wanted`. What has never been accepted is given as it is, so that the
    /// reason shows again.
    pub fn for_run(&mut self, run: u64, wanted: &Resources) -> Resources {
        if run != self.run {
            self.run = run;
            self.replaced = self.refused.clone();
        }
        let is_wanted =
            |ty: ResourceType, name: &str, version: &str| wanted.get(ty, name).is_some_and(|r| r.version == version);
        let accepted = &self.accepted;
        self.replaced
            .retain(|(ty, name), refused| is_wanted(*ty, name, &refused.version) && accepted.get(*ty, name).is_some());
        let mut given = wanted.clone();
        for (ty, name) in self.replaced.keys() {
            if let Some(good) = self.accepted.get(*ty, name) {
                given.insert(*ty, good.clone());
            }
        }
        given
    }

    /// Takes in what the session says about the resources that Envoy was `given`.
    pub fn learn(&mut self, status: &SessionStatus, given: &Resources) {
        for ty in ResourceType::ALL {
            let state = status.of(ty);
            if !state.subscribed || !state.is_idle() || state.version != given.version_of(ty) {
                continue;
            }
            for (name, resource) in given.of(ty) {
                let key = (ty, name.clone());
                if let Some(rejection) = state.rejected.iter().find(|rejection| rejection.names.contains(name)) {
                    let (version, message) = (resource.version.clone(), rejection.message.clone());
                    self.refused.insert(key, Refused { version, message });
                } else {
                    self.accepted.insert(ty, resource.clone());
                    if !self.replaced.contains_key(&key) {
                        self.refused.remove(&key);
                    }
                }
            }
            let gone: Vec<String> =
                self.accepted.of(ty).keys().filter(|name| !given.of(ty).contains_key(*name)).cloned().collect();
            for name in gone {
                self.accepted.remove(ty, &name);
                self.refused.remove(&(ty, name));
            }
        }
    }

    /// The session's state in terms of what the controller told (`copy`) instead of what Envoy was `given`.
    pub fn answers(&self, status: &SessionStatus, given: &Resources, copy: &Resources) -> SessionStatus {
        let mut answers = status.clone();
        for ((ty, name), refused) in &self.replaced {
            let Some(state) = answers.types.get_mut(ty).filter(|state| state.version == given.version_of(*ty)) else {
                continue;
            };
            state.rejected.push(Rejection { names: vec![name.clone()], message: refused.message.clone() });
        }
        let replaced_types = self.replaced.keys().map(|(ty, _)| *ty);
        for ty in replaced_types {
            if let Some(state) = answers.types.get_mut(&ty).filter(|state| state.version == given.version_of(ty)) {
                state.version = copy.version_of(ty);
            }
        }
        answers
    }

    /// What an earlier run refused and the present one does not get.
    pub fn replaced(&self) -> Vec<Rejected> {
        let replaced = self.replaced.iter().map(|((kind, name), refused)| Rejected {
            kind: *kind,
            names: vec![name.clone()],
            message: refused.message.clone(),
        });
        replaced.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_xds::TypeStatus;

    const TY: ResourceType = ResourceType::Listener;

    fn resources(content: &[(&str, &str)]) -> Resources {
        content.iter().map(|(name, body)| (TY, Resource::new(*name, body.as_bytes()))).collect()
    }

    /// Envoy has answered for `given`, and refused these.
    fn answered(given: &Resources, refused: &[&str]) -> SessionStatus {
        let rejection = |name: &&str| Rejection { names: vec![name.to_string()], message: "no such filter".into() };
        let rejected = refused.iter().map(rejection).collect();
        let state = TypeStatus { subscribed: true, version: given.version_of(TY), rejected, ..TypeStatus::default() };
        SessionStatus { types: BTreeMap::from([(TY, state)]) }
    }

    /// A memory of a first run that accepted `in` and `out`, and then refused a second version of `in`.
    fn after_a_rejection() -> (Verdicts, Resources, Resources) {
        let (good, bad) = (resources(&[("in", "1"), ("out", "1")]), resources(&[("in", "2"), ("out", "1")]));
        let mut memory = Verdicts::default();
        assert_eq!(memory.for_run(1, &good), good);
        memory.learn(&answered(&good, &[]), &good);
        assert_eq!(memory.for_run(1, &bad), bad, "the run that is there is asked");
        memory.learn(&answered(&bad, &["in"]), &bad);
        (memory, good, bad)
    }

    #[test]
    fn the_next_run_gets_the_last_good_version_and_the_rejection_is_still_told() {
        let (mut memory, good, bad) = after_a_rejection();
        let given = memory.for_run(2, &bad);
        assert_eq!(given, good);
        let status = answered(&given, &[]);
        memory.learn(&status, &given);
        assert_eq!(memory.replaced()[0].message, "no such filter");
        let answers = memory.answers(&status, &given, &bad);
        assert_eq!(answers.of(TY).version, bad.version_of(TY));
        assert_eq!(answers.of(TY).rejected[0].names, ["in"]);
        assert_eq!(memory.for_run(3, &bad), good, "and the one after that");
    }

    #[test]
    fn the_memory_survives_its_process() {
        let (memory, good, bad) = after_a_rejection();
        let mut restored = Verdicts::restored(&bad, &memory.refusals(&bad));
        assert_eq!(restored.refusals(&bad), memory.refusals(&bad));
        assert_eq!(restored.for_run(1, &bad), good);
        assert_eq!(restored.replaced()[0].message, "no such filter");
        assert!(memory.refusals(&good).is_empty(), "what is not in the copy any more is forgotten");
        let mut clean = Verdicts::restored(&good, &[]);
        assert_eq!(clean.for_run(1, &good), good);
    }

    #[test]
    fn a_new_version_is_tried() {
        let (mut memory, _, bad) = after_a_rejection();
        memory.for_run(2, &bad);
        let repaired = resources(&[("in", "3"), ("out", "1")]);
        assert_eq!(memory.for_run(2, &repaired), repaired);
        assert!(memory.replaced().is_empty());
        memory.learn(&answered(&repaired, &[]), &repaired);
        assert_eq!(memory.for_run(3, &repaired), repaired);
    }

    #[test]
    fn what_was_never_accepted_is_asked_for_again() {
        let bad = resources(&[("in", "2")]);
        let mut memory = Verdicts::default();
        memory.for_run(1, &bad);
        memory.learn(&answered(&bad, &["in"]), &bad);
        assert_eq!(memory.for_run(2, &bad), bad);
    }

    #[test]
    fn what_is_gone_does_not_come_back() {
        let (mut memory, _, _) = after_a_rejection();
        let less = resources(&[("out", "1")]);
        assert_eq!(memory.for_run(2, &less), less);
        memory.learn(&answered(&less, &[]), &less);
        assert_eq!(memory.for_run(3, &resources(&[("in", "2"), ("out", "1")])).len(), 2);
        assert!(memory.replaced().is_empty());
    }
}
