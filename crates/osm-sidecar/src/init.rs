//! Installs redirection and the hold in the pod's network namespace, before any process of the application runs.
//!
//! Each kernel has one or both of two packet filters, and each image one or both programs for them; what works is found
//! by trying. A second run changes nothing, because the kubelet may restart init containers.

mod backend;

use std::fmt;

use osm_redirect::{Families, Family, Redirect};

use crate::ipv6::Ipv6;
pub use backend::{BACKENDS, Backend, Failure};

/// Of this network namespace; Linux 5.14 and later.
const MIGRATE_REQUESTS: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The redirection as it was asked for.
    pub redirect: Redirect,
    /// What is in force, by family.
    pub in_force: Vec<InForce>,
    /// Why there are no rules for IPv6 though the pod has it.
    pub without_ipv6: Option<String>,
}

/// What is in force for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Which.
    pub family: Family,
    /// With which program.
    pub backend: &'static str,
    /// Whether all of it was there before.
    pub was_there: bool,
    /// Why there is no hold though it was asked for.
    pub without_hold: Option<String>,
}

/// Nothing works; what each program said, in full.
#[derive(Debug, thiserror::Error)]
#[error("the redirection could not be installed, so the pod must not start:{}", tried(.0))]
pub struct NotInstalled(pub Vec<Failure>);

/// Installs the rules for each family of a pod that has this of IPv6.
///
/// # Errors
/// When the redirection itself cannot be installed. Where nobody asked for rules of IPv6 and the pod has no address of
/// it under which others are reached, they are done without.
pub fn install(redirect: &Redirect, ipv6: Ipv6, backends: &[Backend]) -> Result<Installed, NotInstalled> {
    let mut installed = Installed { redirect: redirect.clone(), in_force: Vec::new(), without_ipv6: None };
    for family in redirect.families.each(|| ipv6.is_there()) {
        match install_family(redirect, *family, backends) {
            Ok(in_force) => installed.in_force.push(in_force),
            Err(NotInstalled(failures))
                if *family == Family::V6 && redirect.families == Families::Found && ipv6 == Ipv6::LinkLocal =>
            {
                installed.without_ipv6 = Some(tried(&failures));
            }
            Err(failures) => return Err(failures),
        }
    }
    Ok(installed)
}

/// Installs the rules of one family with the first of `backends` that can. The hold is given up only if no backend can do
/// it and one can do the rest.
fn install_family(redirect: &Redirect, family: Family, backends: &[Backend]) -> Result<InForce, NotInstalled> {
    let failures = match install_with_any(redirect, family, backends) {
        Ok((backend, was_there)) => return Ok(InForce { family, backend, was_there, without_hold: None }),
        Err(failures) => failures,
    };
    if !redirect.hold {
        return Err(NotInstalled(failures));
    }
    let redirect = Redirect { hold: false, ..redirect.clone() };
    match install_with_any(&redirect, family, backends) {
        Ok((backend, was_there)) => Ok(InForce { family, backend, was_there, without_hold: Some(tried(&failures)) }),
        // The first failures are those of what was asked for.
        Err(_) => Err(NotInstalled(failures)),
    }
}

/// Has the kernel give the connections in the queue of a listening socket that is closed, as by Envoy's death, to another
/// one on the same port. Most containers may not set it; then the agent does the same by other means, so there is
/// nothing to say.
pub fn let_listeners_inherit() {
    let _ = std::fs::write(MIGRATE_REQUESTS, "1");
}

fn install_with_any(
    redirect: &Redirect,
    family: Family,
    backends: &[Backend],
) -> Result<(&'static str, bool), Vec<Failure>> {
    let mut failures = Vec::new();
    for backend in backends {
        match backend.install(redirect, family) {
            Ok(was_there) => return Ok((backend.name, was_there)),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures)
}

fn tried(failures: &[Failure]) -> String {
    failures.iter().map(|failure| format!("\n  {}", failure.to_string().replace('\n', "\n    "))).collect()
}

/// The init container's log.
impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Redirect { outbound_port, inbound_port, proxy_uid, bypass_inbound_ports, .. } = &self.redirect;
        let by = |it: &InForce| format!("{}, by {}", family_name(it.family), it.backend);
        let families: Vec<String> = self.in_force.iter().map(by).collect();
        let was_there = self.in_force.iter().all(|it| it.was_there);
        let verb = if was_there { "is in place already" } else { "is in place" };
        writeln!(f, "redirection {verb} ({})", families.join("; "))?;
        writeln!(f, "  outgoing connections: to port {outbound_port}, except those of uid {proxy_uid}")?;
        writeln!(f, "  incoming connections: to port {inbound_port}, except to ports {bypass_inbound_ports}")?;
        for (what, value) in self.exceptions() {
            writeln!(f, "  {what}: {value}")?;
        }
        if let Some(why) = &self.without_ipv6 {
            writeln!(
                f,
                "WARNING: no rules for IPv6. The pod has no IPv6 address under which others are reached; should it get \
                 one, connections over it go past the mesh. What was tried:{why}"
            )?;
        }
        match self.without_hold() {
            None if self.redirect.hold => write!(f, "  hold: connections wait while the proxy does not listen"),
            None => write!(f, "  hold: off, as configured; connections are refused while the proxy does not listen"),
            Some((family, why)) => write!(
                f,
                "WARNING: no hold ({}). This kernel cannot match sockets, so connections are refused while the proxy \
                 does not listen, above all in the first seconds of the pod. Load the kernel module xt_socket on the \
                 nodes. What was tried:{why}",
                family_name(family)
            ),
        }
    }
}

impl Installed {
    /// The first family that has no hold though it was asked for, and why.
    pub fn without_hold(&self) -> Option<(Family, &str)> {
        self.in_force.iter().find_map(|it| Some((it.family, it.without_hold.as_deref()?)))
    }

    fn exceptions(&self) -> Vec<(&'static str, String)> {
        let of = &self.redirect;
        let mut exceptions = vec![
            ("not redirected, incoming ports", of.excluded_inbound_ports.to_string()),
            ("not redirected, outgoing ports", of.excluded_outbound_ports.to_string()),
            ("not redirected, outgoing ranges", of.excluded_outbound_ranges.to_string()),
            ("redirected only, outgoing ranges", of.included_outbound_ranges.to_string()),
            ("not redirected, interfaces", of.excluded_interfaces.to_string()),
        ];
        exceptions.retain(|(_, value)| !value.is_empty());
        exceptions
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests;
