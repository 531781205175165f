//! The directory that only the sidecar may enter: sockets, Envoy's bootstrap, the last good state.
//!
//! Whoever can open these sockets can stop Envoy or ask for the workload's key, so the agent does not start when it
//! cannot keep others out.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::libc;
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use zeroize::Zeroizing;

use crate::park::Direction;

/// `sun_path` holds 108 bytes, the last of them zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// Made inside a directory that belongs to somebody else, as an `emptyDir` of Kubernetes does.
const PRIVATE: &str = "agent";

/// A directory of mode 0700 that belongs to this process's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes sure that nobody else can enter: creates the directory or corrects its mode; if it belongs to somebody
    /// else, uses a private directory in it.
    pub fn prepare(path: &Path) -> anyhow::Result<StateDir> {
        let given = Self::own(path).with_context(|| format!("preparing the state directory {}", path.display()))?;
        let own = match given {
            Some(own) => own,
            None => {
                let private = path.join(PRIVATE);
                Self::own(&private)
                    .with_context(|| {
                        format!(
                            "the state directory {} belongs to another user and nothing private can be made in it; \
                             mount an emptyDir there that uid {} may write and that no other container mounts",
                            path.display(),
                            geteuid()
                        )
                    })?
                    .with_context(|| format!("{} belongs to another user; remove it", private.display()))?
            }
        };
        let longest = Direction::Outbound.socket(&own);
        if longest.as_os_str().len() > SOCKET_PATH_LIMIT {
            bail!(
                "{} is too long for a Unix socket (limit {SOCKET_PATH_LIMIT} bytes); choose a shorter state directory",
                longest.display()
            );
        }
        Ok(own)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the agent serves delta ADS and secrets to Envoy.
    pub fn xds_socket(&self) -> PathBuf {
        self.path.join("xds.sock")
    }

    /// Where Envoy serves its administration interface.
    pub fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// Where Envoy's workers send back what they hear.
    pub fn pulse_socket(&self) -> PathBuf {
        self.path.join("pulse.sock")
    }

    /// Envoy's bootstrap.
    pub fn bootstrap(&self) -> PathBuf {
        self.path.join("bootstrap.json")
    }

    /// What a new process of the agent goes on from.
    pub fn last_good(&self) -> PathBuf {
        self.path.join("last-good.state")
    }

    /// The content of a file that only we can have written; `None` if there is none.
    pub fn read(&self, path: &Path, limit_bytes: usize) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
        let read = || {
            // A link is not followed, and a pipe does not make us wait.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let found = file.metadata()?;
            ensure!(found.is_file(), "it is no file");
            ensure!(found.uid() == geteuid().as_raw(), "it belongs to uid {}", found.uid());
            ensure!(
                found.mode() & 0o077 == 0,
                "its mode is {:o}, so others may read or write it",
                found.mode() & 0o7777
            );
            ensure!(found.len() <= limit_bytes as u64, "it has {} bytes, and {limit_bytes} is the limit", found.len());
            let mut content = Zeroizing::new(Vec::with_capacity(limit_bytes.min(found.len() as usize + 1)));
            file.take(limit_bytes as u64).read_to_end(&mut content)?;
            Ok(Some(content))
        };
        read().with_context(|| format!("reading {}", path.display()))
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, path: &Path) -> anyhow::Result<()> {
        remove_if_there(path).with_context(|| format!("removing {}", path.display()))
    }

    /// Replaces a file by one of mode 0600, so that a reader sees the old or the new content and never a part.
    pub fn write(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let fresh = path.with_extension("fresh");
        let written = || {
            remove_if_there(&fresh)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            fs::rename(&fresh, path)
        };
        let written = written().inspect_err(|_| {
            // A part of a file would only take room. That the removal fails too changes nothing.
            let _ = remove_if_there(&fresh);
        });
        written.with_context(|| format!("writing {}", path.display()))
    }

    /// Binds a Unix socket of mode 0600, in place of one that an earlier process left.
    pub fn listen(&self, path: &Path) -> anyhow::Result<UnixListener> {
        let listen = || {
            remove_if_there(path)?;
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            Ok::<_, std::io::Error>(listener)
        };
        listen().with_context(|| format!("listening on {}", path.display()))
    }

    /// The directory as ours alone; `None` if it belongs to somebody else.
    fn own(path: &Path) -> anyhow::Result<Option<StateDir>> {
        match DirBuilder::new().recursive(false).mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context("creating it"),
        }
        let found = fs::symlink_metadata(path).context("looking at it")?;
        if !found.is_dir() {
            bail!("{} is not a directory (links are not followed)", path.display());
        }
        if found.uid() != geteuid().as_raw() {
            return Ok(None);
        }
        if found.mode() & 0o7777 != 0o700 {
            fs::set_permissions(path, Permissions::from_mode(0o700)).context("shutting others out")?;
        }
        Ok(Some(StateDir { path: path.to_owned() }))
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_directory_that_others_may_enter_is_closed() {
        let scratch = Scratch::new("open-dir");
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
        let dir = StateDir::prepare(scratch.path()).unwrap();
        assert_eq!((dir.path(), mode(dir.path())), (scratch.path(), 0o700));
    }

    #[tokio::test]
    async fn files_and_sockets_are_for_their_owner_alone_and_replace_what_was_left() {
        let scratch = Scratch::new("modes");
        let dir = StateDir::prepare(scratch.path()).unwrap();
        for content in ["first", "second"] {
            dir.write(&dir.bootstrap(), content.as_bytes()).unwrap();
            let _socket = dir.listen(&dir.xds_socket()).unwrap();
            assert_eq!(mode(&dir.xds_socket()), 0o600);
        }
        assert_eq!((mode(&dir.bootstrap()), fs::read_to_string(dir.bootstrap()).unwrap()), (0o600, "second".into()));
    }

    #[test]
    fn only_a_file_of_ours_alone_is_read() {
        let scratch = Scratch::new("read");
        let dir = StateDir::prepare(scratch.path()).unwrap();
        let file = dir.last_good();
        let refusal = |words: &str| {
            let error = format!("{:#}", dir.read(&file, 5).unwrap_err());
            assert!(error.contains(words) && error.contains("last-good.state"), "{words}: {error}");
        };
        assert_eq!(dir.read(&file, 5).unwrap(), None);
        dir.write(&file, b"12345").unwrap();
        assert_eq!(dir.read(&file, 5).unwrap().unwrap().as_slice(), b"12345");
        dir.write(&file, b"123456").unwrap();
        refusal("it has 6 bytes, and 5 is the limit");
        dir.write(&file, b"1").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        refusal("its mode is 640, so others may read or write it");
        dir.remove(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        refusal("(os error 40)");
        dir.remove(&file).unwrap();
        fs::create_dir(&file).unwrap();
        refusal("it is no file");
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let scratch = Scratch::new("link");
        let link = scratch.path().join("state");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        let error = StateDir::prepare(&link).unwrap_err();
        assert!(format!("{error:#}").contains("is not a directory"), "{error:#}");
    }

    #[test]
    fn in_a_directory_of_somebody_else_a_private_one_is_made() {
        let scratch = Scratch::new("foreign");
        if !geteuid().is_root() {
            return; // Only root can give a directory away.
        }
        nix::unistd::chown(scratch.path(), Some(12345.into()), None).unwrap();
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
        let dir = StateDir::prepare(scratch.path()).unwrap();
        assert_eq!((dir.path().to_owned(), mode(dir.path())), (scratch.path().join("agent"), 0o700));
        assert_eq!(StateDir::prepare(scratch.path()).unwrap(), dir);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_before_anything_listens() {
        let scratch = Scratch::new("long");
        let error = StateDir::prepare(&scratch.path().join("x".repeat(100))).unwrap_err();
        assert!(error.to_string().contains("choose a shorter state directory"), "{error}");
    }
}
