//! Who listens on a port of this network namespace: the kernel's table of sockets (proc(5), /proc/net/tcp). Pure but
//! for reading it.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// The state `LISTEN` in the kernel's numbers.
const LISTEN: &str = "0A";

/// The inodes of the sockets that listen on `port`.
pub(super) fn listening(port: u16) -> Vec<u64> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().filter_map(|table| File::open(table).ok());
    tables.flat_map(|table| listening_in(BufReader::new(table), port)).collect()
}

/// Listening sockets come first in the table, so the connections, of which there may be many, are not read.
fn listening_in(table: impl BufRead, port: u16) -> Vec<u64> {
    let lines = table.lines().map_while(Result::ok).skip(1);
    let rows = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let listening = rows.take_while(|row| row.get(3).is_some_and(|state| state == LISTEN));
    listening.filter(|row| port_of(&row[1]) == Some(port)).filter_map(|row| row.get(9)?.parse().ok()).collect()
}

/// `0100007F:3A99` is port 15001 of 127.0.0.1.
fn port_of(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = nix::sys::stat::fstat(&listener).unwrap().st_ino;
        assert_eq!(listening(listener.local_addr().unwrap().port()), [inode]);
    }
}
