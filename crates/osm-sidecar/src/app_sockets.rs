//! Whether the application still uses the network, seen from the network namespace that the pod's containers share. The
//! sidecar cannot see the application's processes, and while a pod ends Kubernetes tells nobody which of its containers
//! have ended already.

use std::path::Path;
use std::{fs, io};

use nix::unistd::geteuid;

use crate::proc::{Socket, sockets};

/// Every kind of socket that an application speaks through.
const TABLES: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// How many sockets processes of other users have open in this network namespace.
pub fn count() -> io::Result<usize> {
    count_in(Path::new("/proc/self/net"), geteuid().as_raw())
}

fn count_in(folder: &Path, own: u32) -> io::Result<usize> {
    let mut sum = 0;
    for table in TABLES {
        match fs::read_to_string(folder.join(table)) {
            Ok(text) => sum += of_others(&text, own),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// A socket that no process has open any more, as one that lingers after its end, has no inode and the uid 0.
fn of_others(table: &str, own: u32) -> usize {
    let is_of_others =
        |socket: &Socket| matches!((socket.uid, socket.inode), (Some(uid), Some(inode)) if uid != own && inode != 0);
    sockets(table.as_bytes()).filter(is_of_others).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0 100 0 0 10 0
   1: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1500        0 1235 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:9C40 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   3: 0100007F:9C42 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 1236 1 0 20 4 30 10 -1
";

    #[test]
    fn sockets_of_others_count_and_neither_ours_nor_what_lingers() {
        assert_eq!(of_others(TABLE, 1500), 2);
        assert_eq!(of_others(TABLE, 7), 3);
        assert_eq!(of_others("", 1500), 0);
    }

    #[test]
    fn the_kernels_own_tables_are_read() {
        let nobody = u32::MAX;
        let before = TcpListener::bind("127.0.0.1:0").unwrap();
        let count = count_in(Path::new("/proc/self/net"), nobody).unwrap();
        assert!(count >= 1, "the listener {before:?} is not seen");
    }
}
