//! From a container in a Pod to a process: what it runs, as whom, with which rights, on which files. Pure.

mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use osm_api::{Problem, Reason, k8s};
use serde::{Deserialize, Serialize};

use crate::addresses::{CLUSTER_DOMAIN, DNS, PodIps};
use crate::environment::{expand, variables};
use crate::images::{Image, Images};
pub(crate) use rights::User;

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
    pub(crate) ips: PodIps,
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
    let reader = Reader { container, field, around };
    let image = around.images.find(container.image.as_deref().unwrap_or_default());
    let mut env = variables(container, &image.env, around.pod, around.ips);
    let command = reader.command(image, &env)?;
    let user = reader.user()?;
    env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    env.entry("HOSTNAME".into()).or_insert_with(|| hostname(around.pod));
    env.entry("HOME".into()).or_insert_with(|| if user.uid == 0 { "/root".into() } else { "/".into() });
    let security = container.security_context.clone().unwrap_or_default();
    Ok(ContainerSpec {
        lower: image.root.clone().unwrap_or_else(|| PathBuf::from("/")),
        scratch: around.scratch.to_owned(),
        files: etc_files(around.pod, around.ips),
        mounts: reader.mounts(image)?,
        is_root_read_only: security.read_only_root_filesystem == Some(true),
        process: ProcessSpec {
            command,
            env,
            directory: PathBuf::from(container.working_dir.clone().unwrap_or_else(|| "/".into())),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            capabilities: reader.capabilities(&security)?,
            has_no_new_privileges: security.allow_privilege_escalation == Some(false),
            ends_with_parent: false,
        },
    })
}

/// One container, and where it is in its pod.
struct Reader<'a> {
    container: &'a k8s::Container,
    field: &'a str,
    around: &'a Surroundings<'a>,
}

impl Reader<'_> {
    fn command(&self, image: &Image, env: &BTreeMap<String, String>) -> Result<Vec<String>, Box<Problem>> {
        let own = self.container.command.clone().filter(|command| !command.is_empty());
        let command = own.unwrap_or_else(|| image.command.clone());
        if command.is_empty() {
            let name = self.container.image.as_deref().unwrap_or_default();
            let hint = format!(
                "write a command here, or in the images file:  images: {{\"{name}\": {{command: [PROGRAM, ...]}}}}"
            );
            return Err(self.refuse(".command", Reason::Missing, format!("image {name:?} has no command"), &hint));
        }
        let written = command.into_iter().chain(self.container.args.clone().unwrap_or_default());
        Ok(written.map(|part| expand(&part, env)).collect())
    }

    fn mounts(&self, image: &Image) -> Result<Vec<BindMount>, Box<Problem>> {
        let of_image = image.mounts.iter();
        let mut mounts: Vec<BindMount> = of_image
            .map(|(target, source)| BindMount { source: source.clone(), target: target.clone(), is_read_only: true })
            .collect();
        for (index, mount) in self.container.volume_mounts.iter().flatten().enumerate() {
            let field = |name: &str| format!(".volumeMounts[{index}].{name}");
            let Some(volume) = self.around.volumes.get(&mount.name) else {
                let message = format!("the pod has no volume {:?}", mount.name);
                return Err(self.refuse(&field("name"), Reason::Missing, message, "name one of spec.volumes"));
            };
            let sub_path = PathBuf::from(mount.sub_path.as_deref().unwrap_or_default());
            if !sub_path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
                let message = format!("{} leads out of the volume", sub_path.display());
                let hint = "write a relative path without `..`";
                return Err(self.refuse(&field("subPath"), Reason::InvalidField, message, hint));
            }
            if !mount.mount_path.starts_with('/') {
                let message = format!("{:?} is not an absolute path", mount.mount_path);
                let hint = "begin it with a slash";
                return Err(self.refuse(&field("mountPath"), Reason::InvalidField, message, hint));
            }
            mounts.push(BindMount {
                source: volume.join(sub_path),
                target: PathBuf::from(&mount.mount_path),
                is_read_only: mount.read_only == Some(true),
            });
        }
        Ok(mounts)
    }

    fn user(&self) -> Result<User, Box<Problem>> {
        let user = User::of(self.around.pod, self.container);
        if user.must_not_be_root && user.uid == 0 {
            let message = "the container would run as root, which runAsNonRoot forbids".to_owned();
            let hint = "set runAsUser to a user other than 0";
            return Err(self.refuse(".securityContext.runAsNonRoot", Reason::Refused, message, hint));
        }
        Ok(user)
    }

    fn capabilities(&self, security: &k8s::SecurityContext) -> Result<Option<BTreeSet<String>>, Box<Problem>> {
        if security.privileged == Some(true) {
            return Ok(None);
        }
        let held = rights::capabilities(security.capabilities.as_ref());
        held.map(Some).map_err(|message| {
            let hint = "capabilities are named as in capabilities(7), with or without CAP_";
            self.refuse(".securityContext.capabilities", Reason::InvalidField, message, hint)
        })
    }

    fn refuse(&self, field: &str, reason: Reason, message: String, hint: &str) -> Box<Problem> {
        let metadata = &self.around.pod.metadata;
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let subject = format!("Pod {}/{}", name(&metadata.namespace), name(&metadata.name));
        let problem = Problem::new(subject, reason, message).with_field(format!("{}{field}", self.field));
        Box::new(problem.with_hint(hint))
    }
}

/// The pod's name in its own eyes.
pub(crate) fn hostname(pod: &k8s::Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let mut name = named.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    // The kernel takes 64 bytes; Kubernetes cuts at 63.
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The files that the kubelet writes into every container.
fn etc_files(pod: &k8s::Pod, ips: PodIps) -> BTreeMap<PathBuf, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let hostname = hostname(pod);
    let search = format!("{namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}");
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips.all() {
        hosts.push_str(&format!("{ip}\t{hostname}\n"));
    }
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
