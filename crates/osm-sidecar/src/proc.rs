//! What the kernel says in /proc (proc(5)) of processes, threads and sockets, for all who look there.

use std::fs;
use std::io::BufRead;
use std::path::Path;

/// The state `LISTEN` in the kernel's numbers.
const LISTEN: &str = "0A";

/// The words of a process's or thread's `stat` behind its name, from the state on; none if it is gone. The name, in
/// parentheses, may hold spaces.
pub(crate) fn stat_words(folder: impl AsRef<Path>) -> Vec<String> {
    let stat = fs::read_to_string(folder.as_ref().join("stat")).unwrap_or_default();
    let words = stat.rsplit_once(") ").map_or("", |(_, words)| words);
    words.split_ascii_whitespace().map(str::to_owned).collect()
}

/// How long a process's main thread, or a thread, has run and has waited for its turn to, in nanoseconds; none if it is
/// gone, or the kernel does not count.
pub(crate) fn ran_and_waited_ns(folder: impl AsRef<Path>) -> Option<(u64, u64)> {
    let counted = fs::read_to_string(folder.as_ref().join("schedstat")).ok()?;
    let mut counted = counted.split_ascii_whitespace().map_while(|nanoseconds| nanoseconds.parse().ok());
    Some((counted.next()?, counted.next()?))
}

/// A row of a table of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Its own port.
    pub(crate) port: Option<u16>,
    /// Whether it listens.
    pub(crate) is_listening: bool,
    /// Whose it is.
    pub(crate) uid: Option<u32>,
    /// The inode of its file; 0 if no process has it open any more.
    pub(crate) inode: Option<u64>,
}

/// The rows of `net/tcp`, `net/udp` or their like.
pub(crate) fn sockets(table: impl BufRead) -> impl Iterator<Item = Socket> {
    table.lines().map_while(Result::ok).skip(1).map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let column = |index: usize| columns.get(index).copied().unwrap_or_default();
        Socket {
            port: port_of(column(1)),
            is_listening: column(3) == LISTEN,
            uid: column(7).parse().ok(),
            inode: column(9).parse().ok(),
        }
    })
}

/// `0100007F:3A99` is port 15001 of 127.0.0.1.
fn port_of(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_one_that_is_gone_says_nothing() {
        assert!(stat_words("/proc/self").len() > 19);
        assert_eq!(stat_words("/proc/self/nobody"), [""; 0]);
        assert_eq!(ran_and_waited_ns("/proc/self/nobody"), None);
    }
}
