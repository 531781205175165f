//! The rules, as `iptables-restore --noflush` reads them.
//!
//! All that we install stands in chains of our own, which the text empties and fills again in one step (per table),
//! and in one jump to each from a chain of the kernel. A jump cannot be emptied, so whoever installs asks first
//! which are there ([`Jump::check_args`]) and leaves those out ([`rules_for`]): a second run then changes nothing.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{LocalProxyMode, Port, Ports, Redirect};

const INBOUND: &str = "OSM_PROXY_INBOUND";
const IN_REDIRECT: &str = "OSM_PROXY_IN_REDIRECT";
const OUTBOUND: &str = "OSM_PROXY_OUTBOUND";
const OUT_REDIRECT: &str = "OSM_PROXY_OUT_REDIRECT";
const HOLD: &str = "OSM_PROXY_HOLD";

/// The kernel's multiport match takes no more in one rule.
const MULTIPORT_LIMIT: usize = 15;

/// An address family; each has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: `iptables`.
    V4,
    /// IPv6: `ip6tables`.
    V6,
}

/// A table of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Where addresses are rewritten.
    Nat,
    /// Where packets are dropped.
    Filter,
}

/// The rule in a chain of the kernel that leads to a chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jump {
    /// The table of both chains.
    pub table: Table,
    /// The kernel's chain.
    pub from: &'static str,
    /// Our chain.
    pub to: &'static str,
}

/// The text that installs everything where nothing is installed.
pub fn rules(redirect: &Redirect, family: Family) -> String {
    rules_for(redirect, family, &[])
}

/// The text that installs everything where `installed` is there already.
pub fn rules_for(redirect: &Redirect, family: Family, installed: &[Jump]) -> String {
    let missing: Vec<Jump> = jumps(redirect).into_iter().filter(|jump| !installed.contains(jump)).collect();
    let mut text = String::new();
    // The tables take effect one after the other: nothing is redirected before it can be held.
    if redirect.hold {
        text += &table(Table::Filter, &[HOLD], &hold(redirect), &missing);
    }
    text + &table(Table::Nat, &[INBOUND, IN_REDIRECT, OUTBOUND, OUT_REDIRECT], &nat(redirect, family), &missing)
}

/// All jumps that belong to `redirect`.
pub fn jumps(redirect: &Redirect) -> Vec<Jump> {
    let hold = Jump { table: Table::Filter, from: "INPUT", to: HOLD };
    let inbound = Jump { table: Table::Nat, from: "PREROUTING", to: INBOUND };
    let outbound = Jump { table: Table::Nat, from: "OUTPUT", to: OUTBOUND };
    if redirect.hold { vec![hold, inbound, outbound] } else { vec![inbound, outbound] }
}

fn nat(redirect: &Redirect, family: Family) -> Vec<String> {
    let Redirect { inbound_port, outbound_port, .. } = redirect;
    let mut rules = inbound(redirect);
    rules.push(format!("-A {IN_REDIRECT} -p tcp -j REDIRECT --to-ports {inbound_port}"));
    rules.extend(outbound(redirect, family));
    rules.push(format!("-A {OUT_REDIRECT} -p tcp -j REDIRECT --to-ports {outbound_port}"));
    rules
}

fn inbound(redirect: &Redirect) -> Vec<String> {
    let mut rules = Vec::new();
    for ports in multiports(&redirect.bypass_inbound_ports).chain(multiports(&redirect.excluded_inbound_ports)) {
        rules.push(format!("-A {INBOUND} -p tcp -m multiport --dports {ports} -j RETURN"));
    }
    for interface in &redirect.excluded_interfaces.0 {
        rules.push(format!("-A {INBOUND} -i {interface} -j RETURN"));
    }
    rules.push(format!("-A {INBOUND} -p tcp -j {IN_REDIRECT}"));
    rules
}

fn outbound(redirect: &Redirect, family: Family) -> Vec<String> {
    let (uid, loopback) = (redirect.proxy_uid, family.loopback());
    let mut rules = Vec::new();
    if let (LocalProxyMode::PodIp, Some(ip)) = (redirect.local_proxy_mode, family.first(&redirect.pod_ips)) {
        rules.push(format!(
            "-A {OUTBOUND} -p tcp -o lo -d {loopback} -m owner --uid-owner {uid} -j DNAT --to-destination {ip}"
        ));
    }
    // The proxy that calls its own pod comes in like any other caller: encrypted, so not straight to the application.
    rules.push(format!("-A {OUTBOUND} -o lo ! -d {loopback} -m owner --uid-owner {uid} -j {INBOUND}"));
    // The application that calls its own pod needs no proxy.
    rules.push(format!("-A {OUTBOUND} -o lo -m owner ! --uid-owner {uid} -j RETURN"));
    rules.push(format!("-A {OUTBOUND} -m owner --uid-owner {uid} -j RETURN"));
    rules.push(format!("-A {OUTBOUND} -d {loopback} -j RETURN"));
    for interface in &redirect.excluded_interfaces.0 {
        rules.push(format!("-A {OUTBOUND} -o {interface} -j RETURN"));
    }
    for range in family.of(redirect.excluded_outbound_ranges.iter()) {
        rules.push(format!("-A {OUTBOUND} -d {range} -j RETURN"));
    }
    for ports in multiports(&redirect.excluded_outbound_ports) {
        rules.push(format!("-A {OUTBOUND} -p tcp -m multiport --dports {ports} -j RETURN"));
    }
    if redirect.included_outbound_ranges.is_empty() {
        rules.push(format!("-A {OUTBOUND} -j {OUT_REDIRECT}"));
    } else {
        for range in family.of(redirect.included_outbound_ranges.iter()) {
            rules.push(format!("-A {OUTBOUND} -d {range} -j {OUT_REDIRECT}"));
        }
        rules.push(format!("-A {OUTBOUND} -j RETURN"));
    }
    rules
}

/// A handshake for a port on which nobody listens is dropped instead of refused, so that the caller's kernel repeats
/// it. `--nowildcard`: a listener on any address counts, too.
fn hold(redirect: &Redirect) -> Vec<String> {
    let held = |port: Port| {
        [
            format!("-A {HOLD} -p tcp -m tcp --dport {port} --syn -m socket --nowildcard -j RETURN"),
            format!("-A {HOLD} -p tcp -m tcp --dport {port} --syn -j DROP"),
        ]
    };
    [held(redirect.outbound_port), held(redirect.inbound_port)].concat()
}

fn table(table: Table, chains: &[&str], rules: &[String], missing: &[Jump]) -> String {
    let mut text = format!("*{}\n", table.name());
    for chain in chains {
        writeln!(text, ":{chain} - [0:0]").expect("a String takes every write");
    }
    for rule in rules {
        text.push_str(rule);
        text.push('\n');
    }
    for jump in missing.iter().filter(|jump| jump.table == table) {
        let place = match table {
            Table::Nat => format!("-A {}", jump.from),
            // Before any rule of somebody else that accepts.
            Table::Filter => format!("-I {} 1", jump.from),
        };
        writeln!(text, "{place} -p tcp -j {}", jump.to).expect("a String takes every write");
    }
    text.push_str("COMMIT\n");
    text
}

fn multiports(ports: &Ports) -> impl Iterator<Item = String> {
    let ports: Vec<String> = ports.0.iter().map(Port::to_string).collect();
    let groups: Vec<String> = ports.chunks(MULTIPORT_LIMIT).map(|group| group.join(",")).collect();
    groups.into_iter()
}

impl Jump {
    /// The arguments with which `iptables` (`ip6tables`) says by its exit status whether this jump is there.
    pub fn check_args(&self) -> Vec<String> {
        ["-t", self.table.name(), "-C", self.from, "-p", "tcp", "-j", self.to].map(str::to_owned).to_vec()
    }
}

impl Table {
    /// The name that iptables has for it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Nat => "nat",
            Table::Filter => "filter",
        }
    }
}

impl Family {
    /// The proxy's own loopback address, as a range.
    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.1/32",
            Family::V6 => "::1/128",
        }
    }

    fn of<'a>(self, ranges: impl Iterator<Item = &'a IpNet>) -> impl Iterator<Item = &'a IpNet> {
        ranges.filter(move |range| matches!((self, range), (Family::V4, IpNet::V4(_)) | (Family::V6, IpNet::V6(_))))
    }

    fn first(self, ips: &[IpAddr]) -> Option<&IpAddr> {
        ips.iter().find(|ip| ip.is_ipv4() == (self == Family::V4))
    }
}
