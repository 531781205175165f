//! Sources of changes: what outside of the process says the World is, a directory of manifests or a cluster.
//!
//! A source first says all that exists, then [`Event::InSync`], then what changes. Nothing may be published from a
//! World before every source of it is in sync: an empty mesh after a restart would cut all traffic.

pub mod directory;
pub mod kubernetes;

use osm_api::{Change, Problem};

/// What a source says. Bounded channels carry these; a slow reader makes the source merge what it has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// These objects are new, different or gone.
    Changes(Vec<Change>),
    /// All that is wrong in one file (or with one directory) now; empty when it is right again.
    Problems {
        /// The file, as in the problems' origins.
        file: String,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// All that existed when the source was started has been said. Comes once.
    InSync,
}
