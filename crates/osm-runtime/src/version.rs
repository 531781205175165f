//! Which build this is.

use serde::Serialize;

/// Version, commit and date of a build, by the names that OSM's `/version` has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The version; `dev` outside releases.
    pub version: &'static str,
    /// The commit; `unknown` outside releases.
    pub git_commit: &'static str,
    /// The day of the build; `unknown` outside releases, so that two builds of one tree are equal.
    pub build_date: &'static str,
}

impl Version {
    /// Of this build: `OSM_VERSION`, `OSM_GIT_COMMIT` and `OSM_BUILD_DATE` at the time it was compiled.
    pub fn of_this_build() -> Version {
        Version {
            version: option_env!("OSM_VERSION").unwrap_or("dev"),
            git_commit: option_env!("OSM_GIT_COMMIT").unwrap_or("unknown"),
            build_date: option_env!("OSM_BUILD_DATE").unwrap_or("unknown"),
        }
    }
}
