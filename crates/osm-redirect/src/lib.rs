//! Redirection and hold: which connections of a pod the kernel sends to its proxy, and how it keeps them waiting
//! while nobody listens there.
//!
//! One type, [`Redirect`], owns both the arguments of `osm-init` and the rules that they come to, so that what is
//! injected and what is installed cannot differ. For the same reason [`ForwardedProbe`] is here: it goes past the proxy.
//! So is [`Upstreams`], what a pod waits for.

mod lists;
mod probes;
mod redirect;
mod rules;
mod wait_for;

pub use lists::{Interface, InterfaceError, Interfaces, Port, PortError, Ports, RangeError, Ranges, parse_port};
pub use probes::{ForwardedProbe, HttpProbe, PROBES_VARIABLE, ProbeAction, ProbeKind, read_probes, write_probes};
pub use redirect::{FAMILIES_VARIABLE, Families, LocalProxyMode, Redirect, SIDECAR_UID};
pub use rules::{Family, Jump, Table, jumps, rules, rules_for};
pub use wait_for::{
    Upstream, UpstreamError, Upstreams, WAIT_FOR_LIMIT_VARIABLE, WAIT_FOR_VARIABLE, WaitLimit, WaitLimitError,
};
