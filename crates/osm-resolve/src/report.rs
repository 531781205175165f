//! Problems as they are found. Each is kept once, with the place that its object was written down at.

use std::collections::BTreeSet;

use osm_api::{ObjectKey, Problem, Reason, World};

pub(crate) struct Report<'w> {
    world: &'w World,
    problems: BTreeSet<Problem>,
}

/// One thing wrong with one field.
pub(crate) struct Finding {
    /// As `spec.ports[0].port`; empty for the whole object.
    pub(crate) field: String,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl Finding {
    pub(crate) fn new(field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Finding {
        Finding { field: field.into(), reason, message: message.into(), hint: String::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = hint.into();
        self
    }
}

impl<'w> Report<'w> {
    pub(crate) fn new(world: &'w World) -> Report<'w> {
        Report { world, problems: BTreeSet::new() }
    }

    pub(crate) fn add(&mut self, object: &ObjectKey, finding: Finding) {
        let problem = Problem::new(object, finding.reason, finding.message)
            .with_field(finding.field)
            .with_hint(finding.hint)
            .with_origin(self.world.origin(object).cloned());
        self.problems.insert(problem);
    }

    /// The problems, by file, document and object.
    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems.into_iter().collect()
    }
}
