//! Files that outlive the process: written whole or not at all, and readable by nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A longer file is not one of ours.
const FILE_BYTES_LIMIT: u64 = 1 << 20;

/// The controller's folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the folder, or makes it for us alone.
    pub(crate) fn open(path: &Path) -> anyhow::Result<StateDir> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("making the state directory {}", path.display()))?;
        Ok(StateDir { path: path.to_owned() })
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole, readable by its owner alone.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let (path, unfinished) = (self.file(name), self.file(&format!(".{name}.{}", std::process::id())));
        let write = || -> io::Result<()> {
            // What a crash left is of no use.
            let _ = fs::remove_file(&unfinished);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file; none if there is none.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.file(name), false)
    }

    /// Reads a file that nobody else may read; none if there is none.
    pub(crate) fn read_secret(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.file(name), true)
    }
}

/// Reads a file that nobody else may read.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    read(path, true)?.with_context(|| format!("reading {}: no such file", path.display()))
}

fn read(path: &Path, is_secret: bool) -> anyhow::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let metadata = file.metadata().with_context(|| format!("reading {}", path.display()))?;
    let mode = metadata.mode() & 0o7777;
    if is_secret && mode & 0o077 != 0 {
        bail!(
            "{} may be read by others (mode {mode:o}); chmod 600 it, and replace what it holds if it was",
            path.display()
        );
    }
    if metadata.len() > FILE_BYTES_LIMIT {
        bail!("{} is longer than {FILE_BYTES_LIMIT} bytes", path.display());
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_ours_alone_replaced_whole_and_nothing_is_left_beside_them() {
        let root = std::env::temp_dir().join(format!("osm-state-dir-{}", std::process::id()));
        let state = StateDir::open(&root.join("deep/state")).unwrap();
        assert_eq!(state.read("key").unwrap(), None);
        for content in ["a long first content", "short"] {
            state.write("key", content.as_bytes()).unwrap();
            assert_eq!(state.read_secret("key").unwrap().unwrap(), content.as_bytes());
        }
        let entries: Vec<_> = fs::read_dir(&state.path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(entries, ["key"]);
        assert_eq!(fs::metadata(&state.path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(state.file("key"), fs::Permissions::from_mode(0o640)).unwrap();
        let error = state.read_secret("key").unwrap_err().to_string();
        assert!(error.contains("mode 640"), "{error}");
        assert_eq!(state.read("key").unwrap().unwrap(), b"short");
        fs::remove_dir_all(&root).unwrap();
    }
}
