//! Whom the kernel gives a new connection: a classic BPF program on the reuseport group of a port, which names the
//! place of a socket in the group. Needs no privilege.

use std::os::fd::AsFd;

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

// <linux/bpf_common.h>, <linux/filter.h>
const LOAD_ABSOLUTE_WORD: u16 = 0x20;
const MODULO_CONSTANT: u16 = 0x94;
const ADD_CONSTANT: u16 = 0x04;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
/// SKF_AD_OFF + SKF_AD_RANDOM: not a place in the packet, but a random number.
const RANDOM: u32 = 0xffff_f000 + 56;

/// The guard's place: it listens before any Envoy does, and the kernel fills the place of a socket that leaves with the
/// last one.
const GUARD: u32 = 0;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steer {
    /// The guard.
    ToGuard,
    /// Envoy's workers, evenly: so many sockets, behind the guard and `between` others. Should there be fewer, the kernel
    /// takes any socket of the group, the guard included.
    ToEnvoy { between: u32, sockets: u32 },
}

/// Steers the group that this socket is in. What has been given to a socket before stays with it.
pub(super) fn steer(guard: &impl AsFd, to: Steer) -> nix::Result<()> {
    let mut program = program(to);
    let len = u16::try_from(program.len()).expect("four instructions at most");
    setsockopt(guard, AttachReusePortCbpf, &sock_fprog { len, filter: program.as_mut_ptr() })
}

fn program(to: Steer) -> Vec<sock_filter> {
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    match to {
        Steer::ToGuard | Steer::ToEnvoy { sockets: 0, .. } => vec![step(RETURN_CONSTANT, GUARD)],
        Steer::ToEnvoy { between, sockets } => vec![
            step(LOAD_ABSOLUTE_WORD, RANDOM),
            step(MODULO_CONSTANT, sockets),
            step(ADD_CONSTANT, GUARD + 1 + between),
            step(RETURN_ACCUMULATOR, 0),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn member(address: SocketAddr) -> TcpListener {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { super::super::listen(address).unwrap().into_std().unwrap() })
    }

    /// How many of 60 connections each socket of the group was given.
    fn given(group: &[TcpListener], address: SocketAddr) -> Vec<usize> {
        let clients: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut counts = vec![0; group.len()];
        osm_testkit::eventually(std::time::Duration::from_secs(5), || {
            for (count, socket) in counts.iter_mut().zip(group) {
                *count += std::iter::from_fn(|| socket.accept().ok()).count();
            }
            // Nothing is lost.
            counts.iter().sum::<usize>() == clients.len()
        });
        counts
    }

    #[test]
    fn the_kernel_gives_connections_to_whom_the_program_says() {
        let guard = member(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = guard.local_addr().unwrap();
        let mut group = vec![guard];
        steer(&group[0], Steer::ToGuard).unwrap();
        group.extend([member(address), member(address)]);
        assert_eq!(given(&group, address), [60, 0, 0]);
        steer(&group[0], Steer::ToEnvoy { between: 1, sockets: 1 }).unwrap();
        assert_eq!(given(&group, address), [0, 0, 60]);
        steer(&group[0], Steer::ToEnvoy { between: 0, sockets: 2 }).unwrap();
        let evenly = given(&group, address);
        assert!(evenly[0] == 0 && evenly[1] > 10 && evenly[2] > 10, "{evenly:?}");
        group.truncate(1);
        assert_eq!(given(&group, address), [60], "nobody else is there");
        steer(&group[0], Steer::ToGuard).unwrap();
        group.push(member(address));
        steer(&group[0], Steer::ToEnvoy { between: 0, sockets: 1 }).unwrap();
        assert_eq!(given(&group, address), [0, 60], "the guard is the first for ever");
    }
}
