//! What Envoy is given beside the controller's listeners: for each of the two a *twin* on a Unix socket, which takes
//! what was parked and has the same filter chains, and a listener for the agent's pulse. In a pod with IPv6, the two are
//! given a second address of that family. Pure.
//!
//! Neither the controller nor the rest of the agent knows of it: what Envoy says of a twin is said of its original.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::{Address, Pipe, SocketAddress};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::connection_balance_config::{BalanceType, ExactBalance};
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerFilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{AdditionalAddress, Filter, FilterChain, Listener, ListenerFilter};
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::network::echo::v3::Echo;
use envoy_types::util::pack_any;
use osm_redirect::Family;
use osm_xds::{Rejection, Resource, ResourceType, Resources, SessionStatus};
use prost::Message;

use super::Direction;
use crate::gate::LISTENERS;
use crate::ipv6;
use crate::state_dir::StateDir;

/// The filter that makes no sense on a Unix socket: the PROXY header says where the connection was meant to go.
const ORIGINAL_DESTINATION: &str = "envoy.filters.listener.original_dst";

/// The listener whose connections the agent holds open, one for each worker.
pub const PULSE: &str = "agent-pulse";

/// How statistics call it; they do not count as traffic.
pub const PULSE_STATISTICS: &str = "agent_pulse";

/// Makes them, and remembers what it made: a listener of a large mesh is not decoded for every word of Envoy's.
#[derive(Debug)]
pub struct Twins {
    sockets: BTreeMap<&'static str, Pipe>,
    pulse: Arc<Resource>,
    has_ipv6: bool,
    made: BTreeMap<&'static str, Made>,
    /// The versions of the listeners that Envoy was given last: with twins, and without.
    versions: Option<(String, String)>,
}

/// What was made of one listener.
#[derive(Clone, Debug)]
struct Made {
    /// The listener's version.
    version: String,
    twin: Option<Arc<Resource>>,
    on_both_families: Option<Arc<Resource>>,
}

impl Twins {
    /// Twins whose sockets are in this directory; without parking, only the pulse. The originals listen on the families
    /// of the pod.
    pub fn new(state_dir: &StateDir, is_parking: bool, families: &[Family]) -> Twins {
        let of = |name: &'static str| {
            let direction = if name == LISTENERS[0] { Direction::Inbound } else { Direction::Outbound };
            (name, pipe(&direction.socket(state_dir)))
        };
        let sockets = LISTENERS.into_iter().filter(|_| is_parking).map(of).collect();
        let pulse = Arc::new(encoded(&pulse(&state_dir.pulse_socket())));
        let has_ipv6 = families.contains(&Family::V6);
        Twins { sockets, pulse, has_ipv6, made: BTreeMap::new(), versions: None }
    }

    /// What Envoy is to be given for `wanted`.
    pub fn beside(&mut self, wanted: &Resources) -> Resources {
        let mut all = wanted.clone();
        for name in LISTENERS {
            let Some(original) = wanted.get(ResourceType::Listener, name) else { continue };
            let made = self.made.get(name).filter(|made| made.version == original.version);
            let made = made.cloned().unwrap_or_else(|| self.make(name, original));
            for listener in made.twin.iter().chain(&made.on_both_families) {
                all.insert(ResourceType::Listener, listener.clone());
            }
            self.made.insert(name, made);
        }
        if !wanted.of(ResourceType::Listener).is_empty() {
            all.insert(ResourceType::Listener, self.pulse.clone());
        }
        let version = |of: &Resources| of.version_of(ResourceType::Listener);
        self.versions = Some((version(&all), version(wanted)));
        all
    }

    fn make(&self, name: &str, original: &Resource) -> Made {
        let twin = self.sockets.get(name).and_then(|socket| twin(original, socket));
        let on_both_families = self.has_ipv6.then(|| on_both_families(original)).flatten();
        let version = original.version.clone();
        Made { version, twin: twin.map(Arc::new), on_both_families: on_both_families.map(Arc::new) }
    }

    /// What Envoy says, as if it had been given the originals alone.
    pub fn folded(&self, status: &SessionStatus) -> SessionStatus {
        let mut folded = status.clone();
        let Some(listeners) = folded.types.get_mut(&ResourceType::Listener) else { return folded };
        if let Some((_, plain)) = self.versions.as_ref().filter(|(with_twins, _)| *with_twins == listeners.version) {
            listeners.version.clone_from(plain);
        }
        for names in [&mut listeners.waiting, &mut listeners.leaving, &mut listeners.unrequested] {
            *names = originals(names);
        }
        let rejected = std::mem::take(&mut listeners.rejected);
        for Rejection { names, message } in rejected {
            let twins: Vec<(String, &str)> = LISTENERS.map(|name| (twin_name(name), name)).into();
            let message = twins.iter().fold(message, |message, (twin, original)| message.replace(twin, original));
            let rejection = Rejection { names: originals(&names), message };
            if !listeners.rejected.contains(&rejection) {
                listeners.rejected.push(rejection);
            }
        }
        folded
    }
}

/// The names with those of twins replaced by those of their originals.
fn originals(names: &[String]) -> Vec<String> {
    let original = |name: &String| {
        let found = LISTENERS.into_iter().find(|original| twin_name(original) == *name);
        found.map_or_else(|| name.clone(), str::to_owned)
    };
    let mut originals: Vec<String> = names.iter().map(original).collect();
    originals.sort();
    originals.dedup();
    originals
}

/// `parked-outbound-listener`
fn twin_name(original: &str) -> String {
    format!("parked-{original}")
}

/// None for what cannot be read: Envoy will say so of the original.
fn twin(original: &Resource, socket: &Pipe) -> Option<Resource> {
    let listener = Listener::decode(&original.body[..]).ok()?;
    let name = twin_name(&listener.name);
    let mut filters = vec![ListenerFilter {
        name: "envoy.filters.listener.proxy_protocol".to_owned(),
        config_type: Some(ListenerFilterConfig::TypedConfig(pack_any(ProxyProtocol::default()))),
        ..ListenerFilter::default()
    }];
    filters.extend(listener.listener_filters.into_iter().filter(|filter| filter.name != ORIGINAL_DESTINATION));
    Some(encoded(&Listener {
        address: Some(address(socket)),
        stat_prefix: name.replace('-', "_"),
        name,
        listener_filters: filters,
        ..listener
    }))
}

/// The listener with a second socket for IPv6 alone, beside the one that it has; none for what cannot be read, or listens
/// elsewhere.
fn on_both_families(original: &Resource) -> Option<Resource> {
    let mut listener = Listener::decode(&original.body[..]).ok()?;
    let AddressKind::SocketAddress(socket) = listener.address.clone()?.address? else { return None };
    let place = SocketAddr::new(socket.address.parse().ok()?, 0);
    let beside = SocketAddress { address: ipv6::beside(place)?.ip().to_string(), ..socket };
    listener.additional_addresses.push(AdditionalAddress {
        address: Some(Address { address: Some(AddressKind::SocketAddress(beside)) }),
        ..AdditionalAddress::default()
    });
    Some(encoded(&listener))
}

/// Each worker gets as many connections as the others, and sends back what it hears.
fn pulse(socket: &Path) -> Listener {
    let echo = Filter {
        name: "envoy.filters.network.echo".to_owned(),
        config_type: Some(FilterConfig::TypedConfig(pack_any(Echo::default()))),
    };
    let evenly = ConnectionBalanceConfig { balance_type: Some(BalanceType::ExactBalance(ExactBalance::default())) };
    Listener {
        name: PULSE.to_owned(),
        stat_prefix: PULSE_STATISTICS.to_owned(),
        address: Some(address(&pipe(socket))),
        connection_balance_config: Some(evenly),
        filter_chains: vec![FilterChain { filters: vec![echo], ..FilterChain::default() }],
        ..Listener::default()
    }
}

fn pipe(path: &Path) -> Pipe {
    // Whoever can open it could say that it comes from anywhere.
    Pipe { path: path.to_string_lossy().into_owned(), mode: 0o600 }
}

fn address(pipe: &Pipe) -> Address {
    Address { address: Some(AddressKind::Pipe(pipe.clone())) }
}

fn encoded(listener: &Listener) -> Resource {
    Resource::new(&*listener.name, listener.encode_to_vec())
}

#[cfg(test)]
mod tests;
