//! What has to be looked at again, gathered from the kernel's events while nobody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use tokio::sync::Notify;

/// Above this many files it is cheaper to look at everything than to remember which.
const FILE_LIMIT: usize = 4096;

/// What has to be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// Files, with what happened to each last.
    pub(super) files: BTreeMap<PathBuf, Happened>,
    /// Directories that were moved or deleted, so that our watch no longer watches the path.
    pub(super) unwatched: BTreeSet<PathBuf>,
    /// Too much, or nobody knows what.
    pub(super) everything: bool,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// It is complete and new, or different.
    Written,
    /// It was created; somebody may still be writing.
    Created,
    /// It was deleted or moved away.
    Removed,
}

impl Dirty {
    /// Takes in one event of the kernel.
    pub(super) fn note(&mut self, directories: &[PathBuf], event: &notify::Event) {
        self.everything |= event.need_rescan();
        let happened = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To) | ModifyKind::Metadata(_)) => Happened::Written,
            EventKind::Create(CreateKind::File) => Happened::Created,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Happened::Removed,
            // Among them the writing of single pieces: what is written is read when its writer closes it.
            EventKind::Any | EventKind::Access(_) | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => {
                return;
            }
        };
        for path in &event.paths {
            if directories.contains(path) {
                if happened == Happened::Removed {
                    self.unwatched.insert(path.clone());
                }
            } else if is_manifest(path) {
                self.files.insert(path.clone(), happened);
            } else if is_volume_link(path) {
                self.everything = true;
            }
        }
        if self.files.len() > FILE_LIMIT {
            self.everything = true;
        }
        if self.everything {
            self.files.clear();
        }
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.unwatched.is_empty() && !self.everything
    }
}

/// Whether a file is one that we read.
pub(super) fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|e| e.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Whether this is the link by which Kubernetes swaps all files of a ConfigMap or Secret volume at once: the files
/// themselves are links through it, and see no event of their own.
fn is_volume_link(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "..data")
}

/// What has to be looked at again, between the thread that gets events and the loop that looks.
#[derive(Debug)]
pub(super) struct SharedDirty {
    directories: Vec<PathBuf>,
    dirty: Mutex<Dirty>,
    changed: Notify,
}

impl SharedDirty {
    pub(super) fn new(directories: Vec<PathBuf>) -> SharedDirty {
        SharedDirty { directories, dirty: Mutex::default(), changed: Notify::new() }
    }

    /// Takes in what the kernel says. An error means that events may be lost.
    pub(super) fn note(&self, event: notify::Result<notify::Event>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) => dirty.note(&self.directories, &event),
            Err(_) => dirty.everything = true,
        }
        if !dirty.is_empty() {
            self.changed.notify_one();
        }
    }

    /// All that was noted since the last call.
    pub(super) fn take(&self) -> Dirty {
        mem::take(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when something was noted. Cancel safe.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, Flag};

    fn dirty(kind: EventKind, path: &str) -> Dirty {
        let mut dirty = Dirty::default();
        dirty.note(&["/m".into()], &notify::Event::new(kind).add_path(path.into()));
        dirty
    }

    const MOVED_HERE: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    #[test]
    fn only_manifests_count_and_hidden_files_are_none() {
        for path in ["/m/a.yaml", "/m/a.b.yml", "/m/a.json"] {
            assert_eq!(dirty(MOVED_HERE, path).files.get(Path::new(path)), Some(&Happened::Written));
        }
        for path in ["/m/a.txt", "/m/.a.yaml", "/m/a", "/m/yaml", "/m/.yaml"] {
            assert_eq!(dirty(MOVED_HERE, path), Dirty::default(), "{path}");
        }
    }

    #[test]
    fn a_write_counts_when_its_writer_is_done() {
        assert!(dirty(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/m/a.yaml").is_empty());
        assert!(!dirty(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/m/a.yaml").is_empty());
    }

    #[test]
    fn a_volume_that_is_swapped_and_a_lost_event_mean_everything() {
        assert!(dirty(MOVED_HERE, "/m/..data").everything);
        let mut lost = Dirty::default();
        lost.note(&[], &notify::Event::new(EventKind::Other).set_flag(Flag::Rescan));
        assert!(lost.everything);
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let mut dirty = Dirty::default();
        for index in 0..=FILE_LIMIT {
            dirty.note(&[], &notify::Event::new(MOVED_HERE).add_path(format!("/m/{index}.yaml").into()));
        }
        assert!(dirty.everything && dirty.files.is_empty());
    }
}
