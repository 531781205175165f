//! The ports of one service, as written.

use std::collections::BTreeMap;

use osm_api::{ObjectKey, Reason, k8s};
use osm_model::Protocol;

use crate::protocol;
use crate::report::{Finding, Report};

/// Ports on which the sidecar itself listens. A service that targeted one would hand it to other pods.
pub(crate) const SIDECAR_PORTS: [u16; 8] = [15000, 15001, 15003, 15010, 15901, 15902, 15903, 15904];

/// One port of a service.
pub(crate) struct PortDraft<'w> {
    /// Its name; empty for an only port.
    pub(crate) name: &'w str,
    pub(crate) protocol: Protocol,
    pub(crate) target: Target<'w>,
    /// Where it is written, as `spec.ports[0]`.
    pub(crate) field: String,
}

/// The port of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'w> {
    Number(u16),
    /// The name of a container's port; each pod may have it elsewhere.
    Name(&'w str),
}

/// The ports that the mesh carries; the others become problems.
pub(crate) fn read<'w>(
    key: &ObjectKey,
    spec: &'w k8s::ServiceSpec,
    report: &mut Report<'_>,
) -> BTreeMap<u16, PortDraft<'w>> {
    let mut ports: BTreeMap<u16, PortDraft<'w>> = BTreeMap::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{index}]");
        let (number, draft) = match draft(port, field.clone()) {
            Ok(read) => read,
            Err(finding) => {
                report.add(key, finding);
                continue;
            }
        };
        if let Some(first) = ports.get(&number) {
            let message = format!("port {number} is defined by {} already; left out", first.field);
            report.add(key, Finding::new(field, Reason::Conflict, message).hint("give each port its own number"));
            continue;
        }
        ports.insert(number, draft);
    }
    ports
}

fn draft(port: &k8s::ServicePort, field: String) -> Result<(u16, PortDraft<'_>), Finding> {
    let transport = port.protocol.as_deref().unwrap_or("TCP");
    if !transport.eq_ignore_ascii_case("TCP") {
        let message = format!("{transport} is not carried by the mesh; it goes its own way");
        return Err(Finding::new(format!("{field}.protocol"), Reason::Unsupported, message)
            .hint("nothing to do, unless it has to be encrypted"));
    }
    let number = port_number(port.port).ok_or_else(|| not_a_port(format!("{field}.port"), port.port))?;
    let target = match &port.target_port {
        None => Target::Number(number),
        Some(k8s::IntOrString::Int(target)) => {
            let target = port_number(*target).ok_or_else(|| not_a_port(format!("{field}.targetPort"), *target))?;
            Target::Number(target)
        }
        Some(k8s::IntOrString::String(name)) => Target::Name(name),
    };
    if let Target::Number(target) = target
        && SIDECAR_PORTS.contains(&target)
    {
        let message = format!("{target} is a port of the sidecar; the port is left out");
        return Err(Finding::new(format!("{field}.targetPort"), Reason::Refused, message)
            .hint("let the program listen on another port"));
    }
    let protocol = protocol::of(port).map_err(|written| {
        let message = format!("{written:?} is not supported; the port is left out");
        Finding::new(format!("{field}.appProtocol"), Reason::Unsupported, message)
            .hint(format!("use one of: {}; tcp carries anything", protocol::NAMES))
    })?;
    Ok((number, PortDraft { name: port.name.as_deref().unwrap_or_default(), protocol, target, field }))
}

/// A number from 1 to 65535.
pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn not_a_port(field: String, number: i32) -> Finding {
    Finding::new(field, Reason::InvalidField, format!("{number} is not a port; the port is left out"))
        .hint("use a number from 1 to 65535")
}
