//! As whom a container runs, and what root may do in it.

use std::collections::BTreeSet;

use osm_api::k8s;

/// The rights of root in a container, as container runtimes give them.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Who runs a container.
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: BTreeSet<u32>,
    pub(super) must_not_be_root: bool,
}

impl User {
    /// What the container says counts before what the pod says. Without a word it is root, because there is no image
    /// that could name somebody else.
    pub(crate) fn of(pod: &k8s::Pod, container: &k8s::Container) -> User {
        let whole = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let id = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok());
        let mut groups: BTreeSet<u32> =
            whole.supplemental_groups.iter().flatten().filter_map(|n| u32::try_from(*n).ok()).collect();
        groups.extend(id(whole.fs_group));
        User {
            uid: id(own.run_as_user).or(id(whole.run_as_user)).unwrap_or(0),
            gid: id(own.run_as_group).or(id(whole.run_as_group)).unwrap_or(0),
            groups,
            must_not_be_root: own.run_as_non_root.or(whole.run_as_non_root).unwrap_or(false),
        }
    }
}

/// What root may do, by the kernel's names; an error names what is no capability.
pub(super) fn capabilities(asked: Option<&k8s::Capabilities>) -> Result<BTreeSet<String>, String> {
    let mut held: BTreeSet<String> = DEFAULT_CAPABILITIES.map(str::to_owned).into();
    let all = || caps::all().iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    let known = |name: &String| {
        let name = caps::to_canonical(name);
        name.parse::<caps::Capability>().map(|c| c.to_string()).map_err(|_| format!("{name} is not a capability"))
    };
    // First what is dropped, then what is added, so that `drop: [ALL]` with `add` leaves what is added.
    for name in asked.iter().flat_map(|a| a.drop.iter().flatten()) {
        if name.eq_ignore_ascii_case("ALL") {
            held.clear();
        } else {
            held.remove(&known(name)?);
        }
    }
    for name in asked.iter().flat_map(|a| a.add.iter().flatten()) {
        if name.eq_ignore_ascii_case("ALL") {
            held.extend(all());
        } else {
            held.insert(known(name)?);
        }
    }
    Ok(held)
}
