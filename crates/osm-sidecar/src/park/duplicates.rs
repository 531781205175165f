//! Duplicates of Envoy's listening sockets. While the agent has them, the queues of connections that Envoy has not
//! accepted yet outlive Envoy, and the kernel goes on filling them.

use std::fs;
use std::net::TcpListener;
use std::os::fd::RawFd;

use anyhow::Context;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Duplicates of the sockets with these inodes that a process has; of each one, whatever its number of descriptors.
///
/// The kernel allows it to those who may trace the process: the agent may, as its parent under the same user, unless the
/// container's system call filter is in the way.
pub(super) fn of(pid: u32, inodes: &[u64]) -> anyhow::Result<Vec<TcpListener>> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("it has no process id")?;
    let process = pidfd_open(raw, PidfdFlags::empty()).context("opening the process")?;
    let mut duplicates = Vec::new();
    for inode in inodes {
        let Some(descriptor) = descriptor_of(pid, *inode)? else { continue };
        let duplicate = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).context("duplicating a socket")?;
        duplicates.push(TcpListener::from(duplicate));
    }
    Ok(duplicates)
}

fn descriptor_of(pid: u32, inode: u64) -> anyhow::Result<Option<RawFd>> {
    let target = format!("socket:[{inode}]");
    let folder = format!("/proc/{pid}/fd");
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
        let entry = entry?;
        // It may have been closed meanwhile.
        if fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == target.as_str()) {
            return Ok(entry.file_name().to_str().and_then(|number| number.parse().ok()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_in_the_queue_of_a_process_that_is_killed_is_not_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inode = nix::sys::stat::fstat(&listener).unwrap().st_ino;
        // The only descriptor of it is that of another process, as its standard input.
        let stdin = Stdio::from(listener.as_fd().try_clone_to_owned().unwrap());
        let mut owner = Command::new("sleep").arg("1000").stdin(stdin).spawn().unwrap();
        drop(listener);
        let duplicates = of(owner.id(), &[inode, inode + 1_000_000]).unwrap();
        assert_eq!(duplicates.len(), 1);
        let before = TcpStream::connect(address).unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
        let after = TcpStream::connect(address).unwrap();
        for client in [&before, &after] {
            let (stream, peer) = duplicates[0].accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            drop(stream);
            let mut client = client;
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        assert!(of(owner.id(), &[inode]).is_err(), "a process that is gone has none");
    }
}
