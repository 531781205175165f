use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use osm_xds::TypeStatus;

use super::*;
use crate::scratch::Scratch;

const V4: &[Family] = &[Family::V4];
const BOTH: &[Family] = &[Family::V4, Family::V6];

const TY: ResourceType = ResourceType::Listener;

fn listener(name: &str, port: u16) -> Resource {
    let filter = |name: &str| ListenerFilter { name: name.into(), ..ListenerFilter::default() };
    let socket = SocketAddress {
        address: "0.0.0.0".into(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    encoded(&Listener {
        name: name.into(),
        address: Some(Address { address: Some(AddressKind::SocketAddress(socket)) }),
        listener_filters: vec![filter("envoy.filters.listener.tls_inspector"), filter(ORIGINAL_DESTINATION)],
        filter_chains: vec![FilterChain { name: "chain".into(), ..FilterChain::default() }],
        ..Listener::default()
    })
}

fn both() -> Resources {
    [(TY, listener("outbound-listener", 15001)), (TY, listener("inbound-listener", 15003))].into_iter().collect()
}

fn names(resources: &Resources) -> Vec<&str> {
    resources.of(TY).keys().map(String::as_str).collect()
}

#[test]
fn a_twin_differs_from_its_original_by_where_it_listens_and_how_it_learns_of_the_destination() {
    let scratch = Scratch::new("twins");
    let state_dir = StateDir::prepare(scratch.path()).unwrap();
    let all = Twins::new(&state_dir, true, V4).beside(&both());
    let expected =
        [PULSE, "inbound-listener", "outbound-listener", "parked-inbound-listener", "parked-outbound-listener"];
    assert_eq!(names(&all), expected);
    let read = |name| Listener::decode(&all.get(TY, name).unwrap().body[..]).unwrap();
    let (original, twin) = (read("inbound-listener"), read("parked-inbound-listener"));
    let socket = scratch.path().join("parked-inbound.sock");
    let path = socket.to_str().unwrap().to_owned();
    assert_eq!(twin.address, Some(Address { address: Some(AddressKind::Pipe(Pipe { path, mode: 0o600 })) }));
    assert_eq!(twin.filter_chains, original.filter_chains);
    let filters: Vec<&str> = twin.listener_filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(filters, ["envoy.filters.listener.proxy_protocol", "envoy.filters.listener.tls_inspector"]);
}

#[test]
fn without_parking_there_is_only_the_pulse_and_without_listeners_nothing() {
    let scratch = Scratch::new("no-twins");
    let state_dir = StateDir::prepare(scratch.path()).unwrap();
    let all = Twins::new(&state_dir, false, V4).beside(&both());
    assert_eq!(names(&all), [PULSE, "inbound-listener", "outbound-listener"]);
    assert!(Twins::new(&state_dir, true, V4).beside(&Resources::default()).is_empty());
}

#[test]
fn what_envoy_says_of_a_twin_is_said_of_its_original() {
    let scratch = Scratch::new("folded");
    let state_dir = StateDir::prepare(scratch.path()).unwrap();
    let (mut twins, plain) = (Twins::new(&state_dir, true, V4), both());
    let all = twins.beside(&plain);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let of = |version: String, rejected: Vec<Rejection>, waiting: &[&str]| SessionStatus {
        types: BTreeMap::from([(
            TY,
            TypeStatus { version, rejected, waiting: names(waiting), ..TypeStatus::default() },
        )]),
    };
    let rejected = vec![
        Rejection { names: names(&["parked-inbound-listener"]), message: "parked-inbound-listener: no".into() },
        Rejection { names: names(&["inbound-listener"]), message: "inbound-listener: no".into() },
    ];
    let folded = twins.folded(&of(all.version_of(TY), rejected.clone(), &["parked-outbound-listener"]));
    assert_eq!(folded, of(plain.version_of(TY), rejected[1..].to_vec(), &["outbound-listener"]));
    let earlier = of("of another set".into(), Vec::new(), &[]);
    assert_eq!(twins.folded(&earlier), earlier);
}

#[test]
fn what_cannot_be_read_has_no_twin() {
    let scratch = Scratch::new("unreadable");
    let state_dir = StateDir::prepare(scratch.path()).unwrap();
    let bad: Resources = [(TY, Resource::new("inbound-listener", b"\xff\xff".as_slice()))].into_iter().collect();
    assert_eq!(names(&Twins::new(&state_dir, true, V4).beside(&bad)), [PULSE, "inbound-listener"]);
}

#[test]
fn in_a_pod_with_ipv6_the_originals_listen_there_too_and_what_envoy_says_is_of_the_originals() {
    let scratch = Scratch::new("both-families");
    let state_dir = StateDir::prepare(scratch.path()).unwrap();
    let (mut twins, plain) = (Twins::new(&state_dir, true, BOTH), both());
    let all = twins.beside(&plain);
    let read = |of: &Resources, name: &str| Listener::decode(&of.get(TY, name).unwrap().body[..]).unwrap();
    for (name, port) in [("outbound-listener", 15001), ("inbound-listener", 15003)] {
        let (before, after) = (read(&plain, name), read(&all, name));
        let socket = SocketAddress {
            address: "::".into(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        };
        let beside = AdditionalAddress {
            address: Some(Address { address: Some(AddressKind::SocketAddress(socket)) }),
            ..AdditionalAddress::default()
        };
        // All else, the IPv4 address above all, is as it was.
        assert_eq!(after, Listener { additional_addresses: vec![beside], ..before });
        let twin = read(&all, &format!("parked-{name}"));
        assert!(twin.additional_addresses.is_empty(), "a twin has the one socket");
    }
    assert_eq!(twins.beside(&plain), all, "what is remembered is the same");
    let of = |version: String| SessionStatus {
        types: BTreeMap::from([(TY, TypeStatus { version, ..TypeStatus::default() })]),
    };
    assert_eq!(twins.folded(&of(all.version_of(TY))), of(plain.version_of(TY)));
}
