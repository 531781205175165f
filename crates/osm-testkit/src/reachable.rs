//! Programs that every user of the machine can start: tests run as root, and act as other users too.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The program itself if every user can start it where it is; otherwise a copy of it in `folder`. A checkout or a cache
/// below `/root` is closed to everybody else.
///
/// # Errors
/// When the program cannot be copied.
pub fn reachable_by_everybody(program: &Path, folder: &Path) -> io::Result<PathBuf> {
    let program = program.canonicalize()?;
    if program.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.mode() & 0o001 != 0)) {
        return Ok(program);
    }
    let copy = folder.join(program.file_name().unwrap_or_default());
    if !copy.exists() {
        fs::copy(&program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_behind_a_closed_folder_is_copied() {
        let folder = std::env::temp_dir().join(format!("osm-testkit-reachable-{}", std::process::id()));
        let closed = folder.join("closed");
        fs::create_dir_all(&closed).unwrap();
        let program = closed.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(reachable_by_everybody(&program, &folder).unwrap(), program.canonicalize().unwrap());
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let copy = reachable_by_everybody(&program, &folder).unwrap();
        assert_eq!(copy, folder.join("program"));
        assert_eq!(fs::read_to_string(&copy).unwrap(), "#!/bin/sh\n");
        fs::remove_dir_all(&folder).unwrap();
    }
}
