//! From a container in a Pod to a process: what it runs, as whom, with which rights, on which files. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use osm_api::{Problem, Reason, k8s};
use serde::{Deserialize, Serialize};

use crate::addresses::{CLUSTER_DOMAIN, DNS};
use crate::environment::{expand, variables};
use crate::images::Images;

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
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the container's first process must know to become the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    /// The directory that the root is made from; it is never written to.
    pub lower: PathBuf,
    /// An empty directory to mount on.
    pub scratch: PathBuf,
    /// Files that are written before the root may become read only.
    pub files: BTreeMap<PathBuf, String>,
    /// What is mounted over the root, in order.
    pub mounts: Vec<BindMount>,
    /// No file of the root can be changed.
    pub is_root_read_only: bool,
    /// What runs.
    pub process: ProcessSpec,
}

/// A file or directory from outside in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BindMount {
    /// Outside.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
    /// Whether it cannot be changed inside.
    pub is_read_only: bool,
}

/// A process of a container: its first one, or one of `osm local exec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// All its variables.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub directory: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub groups: BTreeSet<u32>,
    /// What root may do; all that the machine's root may when absent.
    pub capabilities: Option<BTreeSet<String>>,
    /// Programs cannot give it more rights.
    pub has_no_new_privileges: bool,
    /// It is killed when the one that started it ends.
    pub ends_with_parent: bool,
}

/// What a container's process is made from.
pub(crate) struct Surroundings<'a> {
    pub(crate) pod: &'a k8s::Pod,
    pub(crate) ip: Ipv4Addr,
    pub(crate) images: &'a Images,
    /// Where each volume is, by name.
    pub(crate) volumes: &'a BTreeMap<String, PathBuf>,
    pub(crate) scratch: &'a Path,
}

/// The process of `container`.
///
/// # Errors
/// When it cannot run: the problem says why, by field. `field` is where the container is in its pod.
pub(crate) fn container_spec(
    container: &k8s::Container,
    field: &str,
    around: &Surroundings<'_>,
) -> Result<ContainerSpec, Box<Problem>> {
    let refuse = |inner: &str, reason: Reason, message: String, hint: &str| {
        let metadata = &around.pod.metadata;
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let subject = format!("Pod {}/{}", name(&metadata.namespace), name(&metadata.name));
        Box::new(Problem::new(subject, reason, message).with_field(format!("{field}{inner}")).with_hint(hint))
    };
    let image_name = container.image.clone().unwrap_or_default();
    let image = around.images.find(&image_name);
    let mut env = variables(container, &image.env, around.pod, around.ip);
    let command = match container.command.clone().filter(|command| !command.is_empty()) {
        Some(command) => command,
        None if image.command.is_empty() => {
            let hint = format!(
                "write a command here, or in the images file:  images: {{\"{image_name}\": {{command: [PROGRAM, ...]}}}}"
            );
            return Err(refuse(".command", Reason::Missing, format!("image {image_name:?} has no command"), &hint));
        }
        None => image.command.clone(),
    };
    let written = command.into_iter().chain(container.args.clone().unwrap_or_default());
    let command = written.map(|part| expand(&part, &env)).collect();
    let user = user(around.pod, container);
    if user.must_not_be_root && user.uid == 0 {
        let hint = "set runAsUser to a user other than 0";
        let message = "the container would run as root, which runAsNonRoot forbids".to_owned();
        return Err(refuse(".securityContext.runAsNonRoot", Reason::Refused, message, hint));
    }
    let mut mounts: Vec<BindMount> = image
        .mounts
        .iter()
        .map(|(target, source)| BindMount { source: source.clone(), target: target.clone(), is_read_only: true })
        .collect();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(volume) = around.volumes.get(&mount.name) else {
            let message = format!("the pod has no volume {:?}", mount.name);
            let inner = format!(".volumeMounts[{index}].name");
            return Err(refuse(&inner, Reason::Missing, message, "name one of spec.volumes"));
        };
        let sub_path = PathBuf::from(mount.sub_path.as_deref().unwrap_or_default());
        if !sub_path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            let message = format!("{} leads out of the volume", sub_path.display());
            let inner = format!(".volumeMounts[{index}].subPath");
            return Err(refuse(&inner, Reason::InvalidField, message, "write a relative path without `..`"));
        }
        mounts.push(BindMount {
            source: volume.join(sub_path),
            target: PathBuf::from(&mount.mount_path),
            is_read_only: mount.read_only == Some(true),
        });
    }
    env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    env.entry("HOSTNAME".into()).or_insert_with(|| hostname(around.pod));
    env.entry("HOME".into()).or_insert_with(|| if user.uid == 0 { "/root".into() } else { "/".into() });
    let security = container.security_context.clone().unwrap_or_default();
    let capabilities = match security.privileged {
        Some(true) => None,
        Some(false) | None => Some(
            capabilities(security.capabilities.as_ref())
                .map_err(|message| refuse(".securityContext.capabilities", Reason::InvalidField, message, ""))?,
        ),
    };
    Ok(ContainerSpec {
        lower: image.root.clone().unwrap_or_else(|| PathBuf::from("/")),
        scratch: around.scratch.to_owned(),
        files: etc_files(around.pod, around.ip),
        mounts,
        is_root_read_only: security.read_only_root_filesystem == Some(true),
        process: ProcessSpec {
            command,
            env,
            directory: PathBuf::from(container.working_dir.clone().unwrap_or_else(|| "/".into())),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            capabilities,
            has_no_new_privileges: security.allow_privilege_escalation == Some(false),
            ends_with_parent: false,
        },
    })
}

/// The pod's name in its own eyes.
pub(crate) fn hostname(pod: &k8s::Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let mut name = named.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    // The kernel takes 64 bytes; Kubernetes cuts at 63.
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The user that a container's files belong to: a volume that only one user mounts can be kept from all others.
pub(crate) fn uid(pod: &k8s::Pod, container: &k8s::Container) -> u32 {
    user(pod, container).uid
}

struct User {
    uid: u32,
    gid: u32,
    groups: BTreeSet<u32>,
    must_not_be_root: bool,
}

/// What the container says counts before what the pod says. Numbers out of range are the API's to refuse.
fn user(pod: &k8s::Pod, container: &k8s::Container) -> User {
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

fn capabilities(asked: Option<&k8s::Capabilities>) -> Result<BTreeSet<String>, String> {
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

/// The files that the kubelet writes into every container.
fn etc_files(pod: &k8s::Pod, ip: Ipv4Addr) -> BTreeMap<PathBuf, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let hostname = hostname(pod);
    let search = format!("{namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}");
    let mut hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{ip}\t{hostname}\n");
    for alias in pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    BTreeMap::from([
        ("/etc/resolv.conf".into(), format!("search {search}\nnameserver {DNS}\noptions ndots:5\n")),
        ("/etc/hosts".into(), hosts),
        ("/etc/hostname".into(), format!("{hostname}\n")),
    ])
}

#[cfg(test)]
mod tests;
