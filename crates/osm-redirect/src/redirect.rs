//! What is to be redirected: the arguments of `osm-init`.

use std::fmt;
use std::net::IpAddr;

use clap::{Args, ValueEnum};

use crate::{Family, Interfaces, Port, Ports, Ranges, parse_port};

/// The environment variable of the sidecar that holds [`Families`]; not there if it is the default.
pub const FAMILIES_VARIABLE: &str = "OSM_FAMILIES";

/// The user id that agent and Envoy run as; OSM's.
pub const SIDECAR_UID: u32 = 1500;

/// What the kernel sends to the proxy, and what it leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Redirect {
    /// User id of the proxy, whose own connections are not redirected
    #[arg(long, value_name = "UID", default_value_t = SIDECAR_UID)]
    pub proxy_uid: u32,
    /// Port on which the proxy takes the pod's outgoing connections
    #[arg(long, value_name = "PORT", value_parser = parse_port, default_value_t = port(15001))]
    pub outbound_port: Port,
    /// Port on which the proxy takes the pod's incoming connections
    #[arg(long, value_name = "PORT", value_parser = parse_port, default_value_t = port(15003))]
    pub inbound_port: Port,
    /// Ports of the sidecar itself: metrics and probes
    #[arg(long, value_name = "PORTS", default_value_t = sidecar_ports(), hide_default_value = false)]
    pub bypass_inbound_ports: Ports,
    /// Ports of the pod that are reached without the proxy
    #[arg(long, value_name = "PORTS", default_value_t, hide_default_value = true)]
    pub excluded_inbound_ports: Ports,
    /// Ports that the pod reaches without the proxy
    #[arg(long, value_name = "PORTS", default_value_t, hide_default_value = true)]
    pub excluded_outbound_ports: Ports,
    /// Address ranges that the pod reaches without the proxy
    #[arg(long, value_name = "RANGES", default_value_t, hide_default_value = true)]
    pub excluded_outbound_ranges: Ranges,
    /// If not empty, the only address ranges that the pod reaches through the proxy
    #[arg(long, value_name = "RANGES", default_value_t, hide_default_value = true)]
    pub included_outbound_ranges: Ranges,
    /// Interfaces whose connections, in and out, do without the proxy
    #[arg(long, value_name = "INTERFACES", default_value_t, hide_default_value = true)]
    pub excluded_interfaces: Interfaces,
    /// Where the proxy finds the application
    #[arg(long, value_name = "MODE", default_value_t)]
    pub local_proxy_mode: LocalProxyMode,
    /// Addresses of the pod, known only once it has a network
    #[arg(
        long = "pod-ip",
        env = "POD_IP",
        value_name = "ADDRESSES",
        value_delimiter = ',',
        required_if_eq("local_proxy_mode", "pod-ip")
    )]
    pub pod_ips: Vec<IpAddr>,
    /// Address families with rules; by default those that the pod has
    #[arg(long, value_name = "FAMILIES", default_value_t)]
    pub families: Families,
    /// Whether connections wait while the proxy does not listen, instead of being refused
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    pub hold: bool,
}

/// Where the proxy finds the application in its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LocalProxyMode {
    /// On the loopback address.
    #[default]
    Localhost,
    /// On the pod's own address; what the proxy sends to the loopback address goes there.
    PodIp,
}

/// The address families for which rules are installed, and on which agent and Envoy listen: both sides read it alike, as
/// a rule that leads to a port on which nobody listens makes connections hang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Families {
    /// Those that the pod has: IPv4, and IPv6 if an interface besides the loopback has an address of it.
    #[default]
    Found,
    /// IPv4 only. IPv6 goes past the proxy.
    V4,
    /// IPv4 and IPv6.
    DualStack,
}

impl Families {
    /// One by one, in a pod of which `has_ipv6` finds out whether it has IPv6.
    pub fn each(self, has_ipv6: impl FnOnce() -> bool) -> &'static [Family] {
        let is_dual_stack = match self {
            Families::Found => has_ipv6(),
            Families::V4 => false,
            Families::DualStack => true,
        };
        if is_dual_stack { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }
}

impl Redirect {
    /// The arguments that are read as this value: those that differ from the default.
    ///
    /// Without [`Redirect::pod_ips`], they are read from the environment variable `POD_IP`.
    pub fn to_args(&self) -> Vec<String> {
        let plain = Redirect::default();
        let mut args = Vec::new();
        let mut add = |flag: &str, value: String, default: String| {
            if value != default {
                args.push(format!("--{flag}={value}"));
            }
        };
        add("proxy-uid", self.proxy_uid.to_string(), plain.proxy_uid.to_string());
        add("outbound-port", self.outbound_port.to_string(), plain.outbound_port.to_string());
        add("inbound-port", self.inbound_port.to_string(), plain.inbound_port.to_string());
        add("bypass-inbound-ports", self.bypass_inbound_ports.to_string(), plain.bypass_inbound_ports.to_string());
        add("excluded-inbound-ports", self.excluded_inbound_ports.to_string(), String::new());
        add("excluded-outbound-ports", self.excluded_outbound_ports.to_string(), String::new());
        add("excluded-outbound-ranges", self.excluded_outbound_ranges.to_string(), String::new());
        add("included-outbound-ranges", self.included_outbound_ranges.to_string(), String::new());
        add("excluded-interfaces", self.excluded_interfaces.to_string(), String::new());
        add("local-proxy-mode", self.local_proxy_mode.to_string(), plain.local_proxy_mode.to_string());
        let pod_ips: Vec<String> = self.pod_ips.iter().map(IpAddr::to_string).collect();
        add("pod-ip", pod_ips.join(","), String::new());
        add("families", self.families.to_string(), plain.families.to_string());
        add("hold", self.hold.to_string(), plain.hold.to_string());
        args
    }
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect {
            proxy_uid: SIDECAR_UID,
            outbound_port: port(15001),
            inbound_port: port(15003),
            bypass_inbound_ports: sidecar_ports(),
            excluded_inbound_ports: Ports::default(),
            excluded_outbound_ports: Ports::default(),
            excluded_outbound_ranges: Ranges::default(),
            included_outbound_ranges: Ranges::default(),
            excluded_interfaces: Interfaces::default(),
            local_proxy_mode: LocalProxyMode::default(),
            pod_ips: Vec::new(),
            families: Families::default(),
            hold: true,
        }
    }
}

impl fmt::Display for LocalProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocalProxyMode::Localhost => "localhost",
            LocalProxyMode::PodIp => "pod-ip",
        })
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Families::Found => "found",
            Families::V4 => "v4",
            Families::DualStack => "dual-stack",
        })
    }
}

fn port(number: u16) -> Port {
    Port::new(number).expect("called with the numbers of this file, none of them 0")
}

/// Metrics, and the probes that the agent answers.
fn sidecar_ports() -> Ports {
    Ports([15010, 15901, 15902, 15903, 15904].map(port).into())
}
