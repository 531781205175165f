//! Where the files of the checkout are that a program was built in.

use std::path::PathBuf;

/// A file of the checkout, by its path in it; none if this program was taken elsewhere.
pub fn in_checkout(path: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().map(|folder| folder.join(path)).find(|file| file.exists())
}
