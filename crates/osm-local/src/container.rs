//! Becoming a container: what the first process does between its birth in new namespaces and the program that the
//! container is for. Runs as `osm __container SPEC`; everything here happens in the container's own mount namespace,
//! so that nothing needs to be undone.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgid, setgroups, setuid};

use crate::process::{BindMount, ContainerSpec, ProcessSpec};

/// Where the old root is while the new one is furnished.
const OUTSIDE: &str = "/.outside";
const NOTHING: Option<&str> = None;

/// What an image should have brought is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ImageFault(String);

/// Turns this process into the container that the file describes. Only comes back if that fails.
pub(crate) fn become_container(spec_file: &Path) -> anyhow::Result<Infallible> {
    let text = fs::read(spec_file).with_context(|| format!("reading {}", spec_file.display()))?;
    let spec: ContainerSpec = serde_json::from_slice(&text).context("reading the container's description")?;
    enter_root(&spec).with_context(|| ImageFault(format!("making the root from {}", spec.lower.display())))?;
    mount_kernel_file_systems(spec.process.capabilities.is_none())?;
    for (path, text) in &spec.files {
        write_new(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    for bind in &spec.mounts {
        bind_from_outside(bind)
            .with_context(|| ImageFault(format!("mounting {} on {}", bind.source.display(), bind.target.display())))?;
    }
    umount2(OUTSIDE, MntFlags::MNT_DETACH).context("leaving the old root")?;
    fs::remove_dir(OUTSIDE).context("removing the old root's place")?;
    if spec.is_root_read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        mount(NOTHING, "/", NOTHING, flags, NOTHING).context("making the root read only")?;
    }
    become_process(&spec.process)
}

/// Turns this process, which is in all of its namespaces already, into a program. Only comes back if that fails.
pub(crate) fn become_process(spec: &ProcessSpec) -> anyhow::Result<Infallible> {
    if let Some(kept) = &spec.capabilities {
        let mut held: Vec<caps::Capability> =
            caps::read(None, caps::CapSet::Bounding).context("reading capabilities")?.into_iter().collect();
        held.sort_by_key(caps::Capability::index);
        for capability in held.into_iter().filter(|capability| !kept.contains(&capability.to_string())) {
            caps::drop(None, caps::CapSet::Bounding, capability).context("giving up capabilities")?;
        }
        caps::clear(None, caps::CapSet::Inheritable).context("giving up inheritable capabilities")?;
    }
    if spec.has_no_new_privileges {
        nix::sys::prctl::set_no_new_privs().context("giving up new privileges")?;
    }
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("setting the groups")?;
    setgid(Gid::from_raw(spec.gid)).context("setting the group")?;
    setuid(Uid::from_raw(spec.uid)).context("setting the user")?;
    if spec.ends_with_parent {
        // After the change of user, which would take it back.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("tying it to its parent")?;
    }
    chdir(&spec.directory).with_context(|| format!("entering the directory {}", spec.directory.display()))?;
    let Some((program, arguments)) = spec.command.split_first() else {
        bail!("the command is empty");
    };
    let error = Command::new(program).args(arguments).env_clear().envs(&spec.env).exec();
    Err(error).with_context(|| ImageFault(format!("starting {program:?}")))
}

/// A new root in memory over `lower`, and the file systems of the machine's disks where they belong.
fn enter_root(spec: &ContainerSpec) -> anyhow::Result<()> {
    let scratch = &spec.scratch;
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::MS_NODEV, Some("mode=0755")).context("mounting a tmpfs")?;
    let root = scratch.join("root");
    overlay(&spec.lower, scratch, "root", &root)?;
    if spec.lower == Path::new("/") {
        for (index, point) in disks_below_root().into_iter().enumerate() {
            let target = root.join(point.strip_prefix("/")?);
            // Some file systems cannot be under a layer; they are shown as they are. One that cannot be shown at all
            // must not keep the container from starting.
            let _ = overlay(&point, scratch, &format!("disk{index}"), &target).or_else(|_| show(&point, &target));
        }
    }
    let outside = root.join(&OUTSIDE[1..]);
    fs::create_dir(&outside).with_context(|| format!("creating {}", outside.display()))?;
    pivot_root(&root, &outside).context("changing the root")?;
    chdir("/").context("entering the root")
}

fn overlay(lower: &Path, scratch: &Path, name: &str, target: &Path) -> anyhow::Result<()> {
    let (upper, work) = (scratch.join(format!("{name}.upper")), scratch.join(format!("{name}.work")));
    let mode = fs::metadata(lower).with_context(|| format!("looking at {}", lower.display()))?.permissions();
    for directory in [&upper, &work, &target.to_owned()] {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    fs::set_permissions(&upper, mode).context("setting the root's mode")?;
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    // No device file in the root does anything: a container has no device but those in its own /dev.
    mount(Some("overlay"), target, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
        .with_context(|| format!("mounting {} under a layer in memory", lower.display()))
}

/// Read only: there is no layer in memory to write to.
fn show(source: &Path, target: &Path) -> anyhow::Result<()> {
    mount(Some(source), target, NOTHING, MsFlags::MS_BIND, NOTHING)?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    Ok(mount(NOTHING, target, NOTHING, read_only, NOTHING)?)
}

/// Mount points of file systems that hold files, other than the root's: an overlay shows one file system only.
fn disks_below_root() -> Vec<PathBuf> {
    const KERNEL: [&str; 20] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "sysfs",
        "tracefs",
    ];
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        let point = PathBuf::from(place.split(' ').nth(4)?);
        let is_disk = !KERNEL.contains(&source.split(' ').next()?);
        // What is below these the container has of its own.
        let is_elsewhere = ["/proc", "/sys", "/dev", "/run"].iter().any(|own| point.starts_with(own));
        let is_usable = crate::images::is_mountable(&point) && point.is_dir() && point != Path::new("/");
        (is_disk && !is_elsewhere && is_usable).then_some(point)
    });
    points.collect::<BTreeSet<PathBuf>>().into_iter().collect()
}

fn mount_kernel_file_systems(is_privileged: bool) -> anyhow::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let new = |kind: &str, target: &str, flags: MsFlags, options: Option<&str>| {
        fs::create_dir_all(target)
            .and_then(|()| mount(Some(kind), target, Some(kind), flags, options).map_err(Into::into))
            .with_context(|| format!("mounting {kind} on {target}"))
    };
    new("proc", "/proc", quiet, None)?;
    new("sysfs", "/sys", quiet | MsFlags::MS_RDONLY, None)?;
    // The machine's sockets and state are not the container's.
    new("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    fs::DirBuilder::new().mode(0o1777).create("/run/lock").context("creating /run/lock")?;
    fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777)).context("opening /run/lock")?;
    mount_devices()?;
    if !is_privileged {
        // As in every container: the kernel's settings are the machine's.
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some("/proc/sys"), "/proc/sys", NOTHING, bind, NOTHING).context("binding /proc/sys")?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | quiet;
        mount(NOTHING, "/proc/sys", NOTHING, read_only, NOTHING).context("making /proc/sys read only")?;
        for secret in ["/proc/kcore", "/proc/sysrq-trigger", "/proc/timer_list"] {
            if Path::new(secret).exists() {
                mount(Some("/dev/null"), secret, NOTHING, MsFlags::MS_BIND, NOTHING)
                    .with_context(|| format!("hiding {secret}"))?;
            }
        }
    }
    Ok(())
}

fn mount_devices() -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    fs::create_dir_all("/dev").context("creating /dev")?;
    mount(Some("tmpfs"), "/dev", Some("tmpfs"), flags, Some("mode=0755")).context("mounting /dev")?;
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (source, target) = (format!("{OUTSIDE}/dev/{device}"), format!("/dev/{device}"));
        fs::write(&target, "").with_context(|| format!("creating {target}"))?;
        mount(Some(source.as_str()), target.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING)
            .with_context(|| format!("mounting {target}"))?;
    }
    let links = [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1")];
    for (name, target) in links.into_iter().chain([("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")]) {
        symlink(target, format!("/dev/{name}")).with_context(|| format!("linking /dev/{name}"))?;
    }
    fs::create_dir("/dev/pts").and_then(|()| fs::create_dir("/dev/shm")).context("creating /dev/pts and /dev/shm")?;
    let pts = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, pts)
        .context("mounting /dev/pts")?;
    let shm = Some("mode=1777,size=67108864");
    mount(Some("shm"), "/dev/shm", Some("tmpfs"), flags | MsFlags::MS_NODEV, shm).context("mounting /dev/shm")
}

/// In place of whatever is there: on many machines `/etc/resolv.conf` is a link into `/run`.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).context("creating its directory")?;
    }
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).context("removing what is there")?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).context("letting everybody read it")
}

/// Links in the target's path are followed inside the new root, because this process already lives in it.
fn bind_from_outside(bind: &BindMount) -> anyhow::Result<()> {
    let source = Path::new(OUTSIDE).join(bind.source.strip_prefix("/").unwrap_or(&bind.source));
    let target = &bind.target;
    if source.is_dir() {
        fs::create_dir_all(target).context("creating the directory")?;
    } else if !target.exists() {
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory).context("creating its directory")?;
        }
        fs::write(target, "").context("creating the file")?;
    }
    mount(Some(&source), target, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)?;
    if bind.is_read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        mount(NOTHING, target, NOTHING, flags, NOTHING).context("making it read only")?;
    }
    Ok(())
}
