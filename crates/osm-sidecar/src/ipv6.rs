//! IPv6 in the pod: whether there is any, and how the agent listens on it beside IPv4.
//!
//! `osm-init` and the agent look in the same place, so that no rule leads to a port on which nobody listens. Each port is
//! opened twice, on a socket for IPv4 alone, as in a pod without IPv6, and on one for IPv6 alone.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use osm_redirect::Family;
use tokio::net::{TcpListener, TcpSocket};

use crate::fault::Fault;

/// The kernel's list of this network namespace's addresses, also of those that it has not tried out yet (proc(5)).
const ADDRESSES: &str = "/proc/self/net/if_inet6";

/// The scope of an address that holds on one link alone, in that list.
const LINK: &str = "20";

/// As of tokio's own listeners.
const BACKLOG: u32 = 1024;

/// What a pod has of IPv6, its loopback interface aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ipv6 {
    /// Nothing.
    Absent,
    /// Addresses that the kernel gives by itself, for one link. Others may come later, as a router announces them.
    LinkLocal,
    /// Addresses under which others reach it.
    Routable,
}

impl Ipv6 {
    /// Of this network namespace.
    pub fn of_this_pod() -> Ipv6 {
        // A kernel without IPv6 has no such list.
        Ipv6::in_list(&fs::read_to_string(ADDRESSES).unwrap_or_default())
    }

    /// Whether there is any.
    pub fn is_there(self) -> bool {
        self != Ipv6::Absent
    }

    fn in_list(list: &str) -> Ipv6 {
        let addresses = list.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, _, _, scope, _, interface] = words[..] else { return None };
            (interface != "lo").then_some(if scope == LINK { Ipv6::LinkLocal } else { Ipv6::Routable })
        });
        addresses.max().unwrap_or(Ipv6::Absent)
    }
}

/// The same place on IPv6; none for an address that has no counterpart there.
pub fn beside(address: SocketAddr) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(v4) if *v4.ip() == Ipv4Addr::UNSPECIFIED => Some((Ipv6Addr::UNSPECIFIED, v4.port()).into()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    }
}

/// The address, and the same place on IPv6 if that is one of the families.
pub fn places(address: SocketAddr, families: &[Family]) -> Vec<SocketAddr> {
    let beside = beside(address).filter(|_| families.contains(&Family::V6));
    [address].into_iter().chain(beside).collect()
}

/// A socket for the address's own family alone.
pub fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() {
        return TcpSocket::new_v4();
    }
    let socket = TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    Ok(socket)
}

/// Listens on the address, for its own family alone.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    // For connections of an earlier life that have not quite ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens on the address, and on the same place on IPv6 if that is one of the families.
///
/// # Errors
/// When one of them cannot be had, with what it was for.
pub fn bind(address: SocketAddr, families: &[Family], purpose: &str) -> anyhow::Result<Vec<TcpListener>> {
    let bind = |address| {
        listen(address).map_err(|error| {
            let fault = Fault::listening(&error, address, purpose);
            anyhow::Error::from(error).context(fault)
        })
    };
    places(address, families).into_iter().map(bind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";
    const LINK_LOCAL: &str = "fe800000000000000858aafffe010203 02 40 20 c0     eth0\n";
    const GLOBAL: &str = "fd000000000000000000000000000007 02 40 00 82     eth0\n";

    #[test]
    fn the_loopback_is_no_ipv6_and_one_routable_address_is() {
        let check = |list: &[&str], expected: Ipv6| assert_eq!(Ipv6::in_list(&list.concat()), expected, "{list:?}");
        check(&[], Ipv6::Absent);
        check(&[LOOPBACK], Ipv6::Absent);
        check(&[LINK_LOCAL, LOOPBACK], Ipv6::LinkLocal);
        check(&[LINK_LOCAL, GLOBAL, LOOPBACK], Ipv6::Routable);
        check(&["nonsense\n"], Ipv6::Absent);
    }

    #[test]
    fn what_listens_everywhere_does_so_on_both_families() {
        let check = |address: &str, families: &[Family], expected: &[&str]| {
            let expected: Vec<SocketAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(places(address.parse().unwrap(), families), expected);
        };
        let both = [Family::V4, Family::V6];
        check("0.0.0.0:15001", &both, &["0.0.0.0:15001", "[::]:15001"]);
        check("0.0.0.0:15001", &[Family::V4], &["0.0.0.0:15001"]);
        check("127.0.0.1:15000", &both, &["127.0.0.1:15000"]);
        check("[::]:1", &both, &["[::]:1"]);
    }

    #[tokio::test]
    async fn one_port_has_a_socket_for_each_family() {
        let v4 = listen(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        let address = beside(v4.local_addr().unwrap()).unwrap();
        let v6 = listen(address).unwrap();
        let client = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
        let (_, peer) = v6.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}
