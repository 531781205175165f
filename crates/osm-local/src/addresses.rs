//! The addresses of one runner. Every runner has a network namespace of its own, so they are the same everywhere.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The router's address on the bridge: every pod's gateway, and where the controller listens for the pods.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
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
