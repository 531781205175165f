//! The addresses of one runner. Every runner has a network namespace of its own, so they are the same everywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The router's address on the bridge: every pod's gateway, and where the controller listens for the pods.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The same in IPv6.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);
/// Where names are resolved, as in most clusters.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The name under which services are found.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Where pods get their addresses from.
pub(crate) fn pod_network() -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 244, 0, 0), 16).expect("16 is a prefix length")
}

/// Where services get their addresses from.
pub(crate) fn service_network() -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 96, 0, 0), 16).expect("16 is a prefix length")
}

/// Where pods get their IPv6 addresses from: those of IPv4 with another prefix.
pub(crate) fn pod_network_v6() -> Ipv6Net {
    Ipv6Net::new(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 64).expect("64 is a prefix length")
}

/// Where services get their IPv6 addresses from, likewise.
pub(crate) fn service_network_v6() -> Ipv6Net {
    Ipv6Net::new(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 64).expect("64 is a prefix length")
}

/// The address of a network that has this one in its last bits.
pub(crate) fn beside(network: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network.network()) | u128::from(u32::from(address)))
}

/// The address families of a runner's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilies {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv4, and IPv6 beside it.
    DualStack,
}

/// The addresses of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodIps {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl PodIps {
    /// Of a pod that has none yet.
    pub(crate) const NONE: PodIps = PodIps { v4: Ipv4Addr::UNSPECIFIED, v6: None };

    /// Of a pod that was given this one in a network of these families.
    pub(crate) fn of(v4: Ipv4Addr, families: IpFamilies) -> PodIps {
        let v6 = match families {
            IpFamilies::V4 => None,
            IpFamilies::DualStack => Some(beside(pod_network_v6(), v4)),
        };
        PodIps { v4, v6 }
    }

    pub(crate) fn all(self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.v4)].into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// As the downward API writes them.
impl fmt::Display for PodIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.v4)?;
        self.v6.map_or(Ok(()), |v6| write!(f, ",{v6}"))
    }
}

/// Pod addresses in use. The next one given is never one that was just given back, so that a late packet to a pod
/// that is gone does not reach another.
#[derive(Debug, Default)]
pub(crate) struct PodAddresses {
    last: u32,
    used: BTreeSet<Ipv4Addr>,
}

impl PodAddresses {
    /// An address that nobody has; none when all 65,000 are taken.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let network = pod_network();
        let first = u32::from(network.network()) + 2;
        let count = u32::from(network.broadcast()) - first;
        for step in 0..count {
            let address = Ipv4Addr::from(first + (self.last + step) % count);
            if self.used.insert(address) {
                self.last = (self.last + step + 1) % count;
                return Some(address);
            }
        }
        None
    }

    /// Gives an address back.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_that_of_ipv4_in_another_network() {
        let pod = Ipv4Addr::new(10, 244, 0, 2);
        assert_eq!(PodIps::of(pod, IpFamilies::V4).to_string(), "10.244.0.2");
        assert_eq!(PodIps::of(pod, IpFamilies::DualStack).to_string(), "10.244.0.2,fd00:10:244::af4:2");
        assert!(pod_network_v6().contains(&GATEWAY_V6) && !service_network_v6().contains(&GATEWAY_V6));
    }

    #[test]
    fn an_address_is_unique_and_does_not_come_back_at_once() {
        let mut addresses = PodAddresses::default();
        let first = addresses.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 244, 0, 2));
        addresses.give_back(first);
        let others: BTreeSet<Ipv4Addr> = (0..65_000).map(|_| addresses.take().unwrap()).collect();
        assert_eq!(others.len(), 65_000);
        assert!(!others.contains(&first) && !others.contains(&GATEWAY));
    }
}
