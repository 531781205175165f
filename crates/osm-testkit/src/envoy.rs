//! The real Envoy: where it is, and what it says of a configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// Envoy's binary: `OSM_ENVOY`, else `build/tools/envoy` of this workspace, else `envoy` on `PATH`.
///
/// # Panics
/// When there is none: a test that needs Envoy must not pass without it.
#[track_caller]
pub fn envoy() -> PathBuf {
    find_envoy().expect("Envoy is installed: set OSM_ENVOY, put it at build/tools/envoy, or on PATH")
}

/// Like [`envoy`], for those who can do without.
pub fn find_envoy() -> Option<PathBuf> {
    if let Some(path) = env::var_os("OSM_ENVOY") {
        return Some(PathBuf::from(path));
    }
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/tools/envoy");
    let directories = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&directories).map(|dir| dir.join("envoy"));
    std::iter::once(built).chain(on_path).find(|path| path.is_file()).map(|path| path.canonicalize().unwrap_or(path))
}

/// Has Envoy check a bootstrap configuration (JSON) with `--mode validate`.
///
/// # Errors
/// What Envoy wrote when it refused.
pub fn validate_with_envoy(bootstrap: &serde_json::Value) -> Result<(), String> {
    let dir = Scratch::new()?;
    let path = dir.0.join("bootstrap.json");
    fs::write(&path, bootstrap.to_string()).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    let output = Command::new(envoy())
        .args(["--mode", "validate", "--disable-hot-restart", "-l", "warning", "-c"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start Envoy: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(format!("Envoy refused ({}):\n{said}", output.status))
}

/// A directory of one call, gone when the call ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("osm-testkit-{}-{call}", process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left over when it cannot be removed: the test's verdict does not depend on it.
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn envoy_tells_a_good_configuration_from_a_bad_one() {
        let cluster = |load_balancing: &str| {
            json!({"static_resources": {"clusters": [
                {"name": "c", "type": "STATIC", "connect_timeout": "1s", "lb_policy": load_balancing}
            ]}})
        };
        assert_eq!(validate_with_envoy(&cluster("ROUND_ROBIN")), Ok(()));
        let refused = validate_with_envoy(&cluster("ROUND_RIBBON")).expect_err("there is no such policy");
        assert!(refused.contains("ROUND_RIBBON"), "{refused}");
    }
}
