//! What holds of every redirection.

use std::net::IpAddr;

use clap::Parser;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use osm_redirect::{
    Families, Family, Interface, Interfaces, LocalProxyMode, Port, Ports, Ranges, Redirect, jumps, rules, rules_for,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::CommandLine;

proptest! {
    #[test]
    fn arguments_are_read_as_what_wrote_them(redirect in redirects()) {
        let args = redirect.to_args();
        let read = CommandLine::try_parse_from(&args).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        prop_assert_eq!(read.redirect, redirect);
    }

    #[test]
    fn the_proxy_is_let_out_before_anything_is_redirected(redirect in redirects()) {
        let let_out = format!("-A OSM_PROXY_OUTBOUND -m owner --uid-owner {} -j RETURN", redirect.proxy_uid);
        for family in redirect.families.each(|| true) {
            let text = rules(&redirect, *family);
            let lines: Vec<&str> = text.lines().collect();
            let let_out_at = lines.iter().position(|line| *line == let_out).unwrap();
            for (at, line) in lines.iter().enumerate() {
                prop_assert!(!line.ends_with("-j OSM_PROXY_OUT_REDIRECT") || at > let_out_at, "{}", text);
            }
        }
    }

    #[test]
    fn each_line_is_one_rule_of_its_family(redirect in redirects()) {
        for family in [Family::V4, Family::V6] {
            for line in rules(&redirect, family).lines() {
                prop_assert!(matches!(line.as_bytes()[0], b'*' | b':' | b'-' | b'C'), "{}", line);
                let words: Vec<&str> = line.split(' ').collect();
                for pair in words.windows(2) {
                    match pair[0] {
                        "-d" => prop_assert_eq!(pair[1].contains(':'), family == Family::V6, "{}", line),
                        "--dports" => prop_assert!(pair[1].split(',').count() <= 15, "{}", line),
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn a_second_run_only_fills_our_own_chains(redirect in redirects()) {
        for family in redirect.families.each(|| true) {
            for line in rules_for(&redirect, *family, &jumps(&redirect)).lines() {
                let is_ours = !line.starts_with('-') || line.starts_with("-A OSM_PROXY_");
                prop_assert!(is_ours, "{}", line);
            }
        }
    }
}

fn redirects() -> impl Strategy<Value = Redirect> {
    let numbers = (any::<u32>(), ports(1..2), ports(1..2));
    let lists = (ports(0..40), ports(0..40), ports(0..40), ranges(), ranges(), interfaces());
    let families = prop_oneof![Just(Families::Found), Just(Families::V4), Just(Families::DualStack)];
    let modes = (any::<bool>(), vec(any::<IpAddr>(), 1..3), families, any::<bool>());
    (numbers, lists, modes).prop_map(|(numbers, lists, modes)| {
        let only = |ports: Ports| ports.0.into_iter().next().unwrap();
        let (is_pod_ip, pod_ips, families, hold) = modes;
        Redirect {
            proxy_uid: numbers.0,
            outbound_port: only(numbers.1),
            inbound_port: only(numbers.2),
            bypass_inbound_ports: lists.0,
            excluded_inbound_ports: lists.1,
            excluded_outbound_ports: lists.2,
            excluded_outbound_ranges: lists.3,
            included_outbound_ranges: lists.4,
            excluded_interfaces: lists.5,
            local_proxy_mode: if is_pod_ip { LocalProxyMode::PodIp } else { LocalProxyMode::Localhost },
            pod_ips,
            families,
            hold,
        }
    })
}

fn ports(count: std::ops::Range<usize>) -> impl Strategy<Value = Ports> {
    btree_set((1u16..=65535).prop_map(|port| Port::new(port).unwrap()), count).prop_map(Ports)
}

fn ranges() -> impl Strategy<Value = Ranges> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(ip, len)| IpNet::V4(Ipv4Net::new(ip.into(), len).unwrap()));
    let v6 = (any::<[u8; 16]>(), 0u8..=128).prop_map(|(ip, len)| IpNet::V6(Ipv6Net::new(ip.into(), len).unwrap()));
    vec(prop_oneof![v4, v6], 0..6).prop_map(|ranges| ranges.into_iter().collect())
}

fn interfaces() -> impl Strategy<Value = Interfaces> {
    btree_set("[a-z][a-z0-9._-]{0,13}[+]?", 0..4)
        .prop_map(|names| Interfaces(names.iter().map(|name| name.parse::<Interface>().unwrap()).collect()))
}
