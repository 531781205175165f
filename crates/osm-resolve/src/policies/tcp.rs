//! TCPRoutes: sets of TCP ports that rules name.

use std::collections::BTreeSet;

use osm_api::{ObjectKey, Reason, TrafficTargetRule};
use osm_model::TcpPorts;

use super::no_such_match;
use crate::report::{Finding, Report};

/// A route, as rules may name it.
pub(crate) struct TcpRoute<'w> {
    /// What rules may call its one match.
    name: &'w str,
    ports: TcpPorts,
}

/// The ports of a route. What is not a port is left out, and a route whose ports are all left out has none.
pub(crate) fn read<'w>(key: &ObjectKey, route: &'w osm_api::TcpRoute, report: &mut Report<'_>) -> TcpRoute<'w> {
    let written = &route.spec.matches.ports;
    let mut ports = BTreeSet::new();
    for (index, port) in written.iter().enumerate() {
        match u16::try_from(*port).ok().filter(|port| *port != 0) {
            Some(port) => {
                ports.insert(port);
            }
            None => {
                let field = format!("spec.matches.ports[{index}]");
                let finding = Finding::new(field, Reason::InvalidField, format!("{port} is not a port; left out"));
                report.add(key, finding.hint("use a number from 1 to 65535"));
            }
        }
    }
    let ports = if written.is_empty() { TcpPorts::Any } else { TcpPorts::Only(ports) };
    TcpRoute { name: &route.spec.matches.name, ports }
}

/// Adds the ports of a route that a rule names.
pub(crate) fn add(
    granted: &mut TcpPorts,
    route: &TcpRoute<'_>,
    rule: &TrafficTargetRule,
    field: &str,
) -> Result<(), Vec<Finding>> {
    let is_named = |name: &String| !name.is_empty() && name == route.name;
    if rule.matches.is_empty() || rule.matches.iter().any(is_named) {
        granted.add(&route.ports);
    }
    let unknown = (0..rule.matches.len()).filter(|index| !is_named(&rule.matches[*index]));
    let findings: Vec<Finding> = unknown.map(|index| no_such_match(rule, field, index)).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
