//! Who listens on a port of this network namespace: the kernel's table of sockets (proc(5), /proc/net/tcp). Pure but
//! for reading it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

use crate::proc::sockets;

/// The inodes of the sockets that listen on the address's port, for its family: each has a group of sockets of its own.
pub(super) fn listening(address: SocketAddr) -> Vec<u64> {
    let table = if address.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    File::open(table).map(|table| listening_in(BufReader::new(table), address.port())).unwrap_or_default()
}

/// Listening sockets come first in the table, so the connections, of which there may be many, are not read.
fn listening_in(table: impl BufRead, port: u16) -> Vec<u64> {
    let listening = sockets(table).take_while(|socket| socket.is_listening);
    listening.filter(|socket| socket.port == Some(port)).filter_map(|socket| socket.inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1500        0 4711 1 0 100 0 0 10 0
   1: 00000000:3A9B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1500        0 4712 1 0 100 0 0 10 0
   2: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1500        0 4713 1 0 100 0 0 10 0
   3: 0A00000A:3A99 0A00000B:0050 01 00000000:00000000 00:00000000 00000000  1500        0 4714 1 0 20 4 30 10 -1
";

    #[test]
    fn those_that_listen_on_the_port_are_found_and_its_connections_are_not() {
        assert_eq!(listening_in(TABLE.as_bytes(), 15001), [4711, 4713]);
        assert_eq!(listening_in(TABLE.as_bytes(), 15003), [4712]);
        assert!(listening_in(TABLE.as_bytes(), 1).is_empty());
    }

    #[test]
    fn a_real_listener_is_in_the_real_table() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(place).unwrap();
            let inode = nix::sys::stat::fstat(&listener).unwrap().st_ino;
            assert_eq!(listening(listener.local_addr().unwrap()), [inode], "{place}");
        }
    }
}
