//! The watched directories: keeps a watch on each path, whatever happens to what it names, and reads what changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{INotifyWatcher, RecursiveMode, Watcher};
use osm_api::{Problem, Reason};

use super::dirty::{Dirty, SharedDirty};
use super::scan::Scanner;
use crate::Event;

/// The watches, and what was read.
#[derive(Debug)]
pub(super) struct Watched {
    directories: Vec<Directory>,
    watcher: INotifyWatcher,
    scanner: Scanner,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// What our watch is on; none while there is no watch.
    watching: Option<Identity>,
    was_read: bool,
}

/// What tells one directory from another that has its name later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Watched {
    /// No directory is watched before the first step.
    pub(super) fn new(directories: Vec<PathBuf>, dirty: &Arc<SharedDirty>) -> notify::Result<Watched> {
        let dirty = dirty.clone();
        let watcher = notify::recommended_watcher(move |event| dirty.note(event))?;
        let directories = directories.into_iter().map(|path| Directory { path, watching: None, was_read: false });
        Ok(Watched { directories: directories.collect(), watcher, scanner: Scanner::default() })
    }

    /// Looks at what is dirty, and at directories that came back, and says what that comes to.
    pub(super) fn step(&mut self, dirty: &Dirty) -> Vec<Event> {
        for (file, happened) in &dirty.files {
            self.scanner.look(file, *happened);
        }
        for directory in &mut self.directories {
            let is_unwatched = dirty.unwatched.contains(&directory.path);
            match directory.keep_watch(&mut self.watcher, is_unwatched) {
                Ok(is_new) => {
                    // The watch came first, so what changes while we read is read again.
                    if is_new || dirty.everything {
                        self.scanner.scan(&directory.path);
                    }
                    directory.was_read = true;
                    self.scanner.set_problems(&directory.path, Vec::new());
                }
                Err(error) => self.scanner.set_problems(&directory.path, vec![missing(&directory.path, &error)]),
            }
        }
        self.scanner.take_events()
    }

    /// Whether every directory has been read at least once.
    pub(super) fn were_all_read(&self) -> bool {
        self.directories.iter().all(|d| d.was_read)
    }

    /// Whether some directory is not there to be watched.
    pub(super) fn is_any_missing(&self) -> bool {
        self.directories.iter().any(|d| d.watching.is_none())
    }
}

impl Directory {
    /// Makes sure that what the path names is watched, and says whether that is a new watch.
    fn keep_watch(&mut self, watcher: &mut INotifyWatcher, is_unwatched: bool) -> Result<bool, String> {
        let is_now = identity(&self.path);
        if let (Ok(is_now), Some(watching), false) = (&is_now, self.watching, is_unwatched)
            && *is_now == watching
        {
            return Ok(false);
        }
        if self.watching.take().is_some() {
            // An error says that the watch went with the directory, which is as good.
            let _ = watcher.unwatch(&self.path);
        }
        let is_now = is_now?;
        watcher.watch(&self.path, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
        self.watching = Some(is_now);
        Ok(true)
    }
}

fn identity(path: &Path) -> Result<Identity, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_dir() {
        return Err("not a directory".to_owned());
    }
    Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
}

fn missing(path: &Path, error: &str) -> Problem {
    Problem::new(path.display(), Reason::Missing, format!("the directory cannot be watched: {error}"))
        .with_hint("what it held last still counts; make it a directory that can be read")
}
