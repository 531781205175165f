//! What the agent tells Envoy of a connection before its first byte: version 2 of the PROXY protocol. Pure.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the receiver uses its own addresses.
const LOCAL: u8 = 0x20;
/// Version 2; the addresses follow.
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Where a connection comes from, and where it was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// The header. Without ends, Envoy treats the connection as one that nobody redirected, and cannot be made to dial
/// itself.
pub(crate) fn proxy_header(ends: Option<Ends>) -> Vec<u8> {
    let (command, family, addresses) = match ends.map(canonical) {
        Some((IpAddr::V4(source), IpAddr::V4(destination))) => {
            (PROXY, TCP_OVER_IPV4, [source.octets(), destination.octets()].concat())
        }
        Some((IpAddr::V6(source), IpAddr::V6(destination))) => {
            (PROXY, TCP_OVER_IPV6, [source.octets(), destination.octets()].concat())
        }
        // A connection has one family.
        Some((IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_))) | None => {
            (LOCAL, UNSPECIFIED, Vec::new())
        }
    };
    let ports = ends.filter(|_| command == PROXY).map(|ends| [ends.source.port(), ends.destination.port()]);
    let ports: Vec<u8> = ports.into_iter().flatten().flat_map(u16::to_be_bytes).collect();
    let length = u16::try_from(addresses.len() + ports.len()).expect("36 bytes at most");
    [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), &addresses, &ports].concat()
}

/// An IPv4 connection that came in over an IPv6 socket is an IPv4 connection.
fn canonical(ends: Ends) -> (IpAddr, IpAddr) {
    (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn check(ends: Option<Ends>, after_signature: &[u8]) {
        let header = proxy_header(ends);
        assert_eq!(&header[..12], b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a");
        assert_eq!(&header[12..], after_signature);
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let v4 = [0x21, 0x11, 0, 12, 10, 1, 2, 3, 10, 9, 8, 7, 0x10, 0x01, 0x00, 0x50];
        check(ends("10.1.2.3:4097", "10.9.8.7:80"), &v4);
        check(ends("[::ffff:10.1.2.3]:4097", "[::ffff:10.9.8.7]:80"), &v4);
        let mut v6 = vec![0x21, 0x21, 0, 36];
        v6.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0x01, 0x01, 0xbb]);
        check(ends("[fd00::1]:4097", "[fd00::2]:443"), &v6);
    }

    #[test]
    fn what_nobody_redirected_keeps_the_receivers_addresses() {
        check(None, &[0x20, 0, 0, 0]);
        check(ends("10.1.2.3:1", "[fd00::2]:443"), &[0x20, 0, 0, 0]);
    }
}
