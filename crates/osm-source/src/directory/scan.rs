//! Reading files into the set of manifests, and what that comes to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use osm_api::{Change, ManifestSet, Problem, Reason};

use super::dirty::{Happened, is_manifest};
use crate::Event;

/// A longer file is refused: it is not a manifest, and would only cost memory. 10,000 pods take about 10 MiB.
const FILE_BYTES_LIMIT: u64 = 256 << 20;

/// What was read, and what of it has not been said yet.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    set: ManifestSet,
    problems: BTreeMap<String, Vec<Problem>>,
    changes: Vec<Change>,
    new_problems: BTreeMap<String, Vec<Problem>>,
}

impl Scanner {
    /// Reads every manifest in a directory, and forgets those that are no longer there.
    pub(super) fn scan(&mut self, directory: &Path) {
        let mut files: Vec<PathBuf> = match fs::read_dir(directory) {
            Ok(entries) => entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| is_manifest(p)).collect(),
            // It went between watch and scan. That is noticed by the watch; here nothing is gone.
            Err(_) => return,
        };
        files.sort();
        let here: Vec<String> =
            self.set.files().filter(|f| Path::new(f).parent() == Some(directory)).map(String::from).collect();
        for file in here.iter().filter(|f| files.binary_search(&PathBuf::from(f)).is_err()) {
            self.forget(file);
        }
        for file in files {
            self.look(&file, Happened::Written);
        }
    }

    /// Looks at one file that something happened to.
    pub(super) fn look(&mut self, file: &Path, happened: Happened) {
        if happened == Happened::Created && is_being_written(file) {
            return;
        }
        let name = file.display().to_string();
        match read(file) {
            Ok(text) => {
                let update = self.set.put(&name, &text);
                self.changes.extend(update.changes);
                self.set_problems(file, update.problems);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_directory_there = file.parent().is_some_and(Path::is_dir);
                if happened == Happened::Removed || is_directory_there {
                    self.forget(&name);
                }
            }
            Err(error) => {
                let problem = Problem::new(&name, Reason::Syntax, format!("cannot be read: {error}"))
                    .with_hint("what it held last still counts; make it a file that can be read");
                self.set_problems(file, vec![problem]);
            }
        }
    }

    /// Says all that is wrong with a file or directory now.
    pub(super) fn set_problems(&mut self, path: &Path, problems: Vec<Problem>) {
        let file = path.display().to_string();
        if self.problems.get(&file).map_or(&[] as &[Problem], Vec::as_slice) == problems.as_slice() {
            return;
        }
        if problems.is_empty() {
            self.problems.remove(&file);
        } else {
            self.problems.insert(file.clone(), problems.clone());
        }
        self.new_problems.insert(file, problems);
    }

    /// All that has not been said yet.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let problems = mem::take(&mut self.new_problems).into_iter();
        let mut events: Vec<Event> = problems.map(|(file, problems)| Event::Problems { file, problems }).collect();
        if !self.changes.is_empty() {
            events.push(Event::Changes(mem::take(&mut self.changes)));
        }
        events
    }

    fn forget(&mut self, file: &str) {
        let update = self.set.remove(file);
        self.changes.extend(update.changes);
        self.set_problems(Path::new(file), update.problems);
    }
}

/// Whether a file that was just created has a writer who will close it, which is when it is read. A link to a file
/// has none.
fn is_being_written(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

fn read(file: &Path) -> io::Result<String> {
    // Asked before opening: to open a pipe waits for its writer.
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if metadata.len() > FILE_BYTES_LIMIT {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_LIMIT} bytes")));
    }
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}
