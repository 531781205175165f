//! Services of the mesh: their addresses, their ports, and the pods behind them.

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use osm_api::{Kind, NamespacedName, ObjectKey, Reason, World, k8s};
use osm_model::ServiceName;

use crate::pods::{MeshedPod, Pods};
use crate::report::{Finding, Report};

pub(crate) use ports::{PortDraft, SIDECAR_PORTS, Target, port_number};

/// A service whose endpoints are still to be found.
pub(crate) struct ServiceDraft<'w> {
    pub(crate) key: ObjectKey,
    /// What clients dial; empty for a headless service.
    pub(crate) addresses: Vec<IpAddr>,
    /// Ports by number.
    pub(crate) ports: BTreeMap<u16, PortDraft<'w>>,
    /// The pods with a sidecar that the selector selects.
    pub(crate) pods: Vec<&'w MeshedPod<'w>>,
}

/// Every service of the mesh. Services that no selector ties to pods are not of the mesh: what holds for
/// destinations outside holds for them.
pub(crate) fn read<'w>(
    world: &'w World,
    namespaces: &BTreeSet<&str>,
    pods: &'w Pods<'w>,
    report: &mut Report<'_>,
) -> BTreeMap<ServiceName, ServiceDraft<'w>> {
    let mut drafts = BTreeMap::new();
    for (name, service) in &world.services {
        if !namespaces.contains(name.namespace.as_str()) {
            continue;
        }
        if let Some(draft) = draft(name, service, pods, report) {
            drafts.insert(ServiceName { namespace: name.namespace.clone(), name: name.name.clone() }, draft);
        }
    }
    settle_claims(&mut drafts, report);
    drafts
}

fn draft<'w>(
    name: &NamespacedName,
    service: &'w k8s::Service,
    pods: &'w Pods<'w>,
    report: &mut Report<'_>,
) -> Option<ServiceDraft<'w>> {
    let key = ObjectKey::new(Kind::Service, &name.namespace, &name.name);
    let spec = service.spec.as_ref();
    // A name for another name: clients ask DNS and then dial something else.
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return None;
    }
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let (Some(spec), Some(selector)) = (spec, selector) else {
        report.add(
            &key,
            Finding::new("spec.selector", Reason::Missing, "no selector, so no pod of the mesh can answer for it")
                .hint("select pods with a sidecar; until then it counts as a destination outside the mesh"),
        );
        return None;
    };
    let selected = pods.selected(&name.namespace, selector);
    if selected.meshed.is_empty() {
        let message = match selected.others {
            0 => "selects no pod".to_owned(),
            others => format!("selects no pod with a sidecar, but {others} without"),
        };
        report.add(
            &key,
            Finding::new("spec.selector", Reason::Missing, message)
                .hint("requests to it fail until a pod with a sidecar has these labels"),
        );
    }
    let addresses = addresses(&key, spec, report);
    let ports = ports::read(&key, spec, report);
    Some(ServiceDraft { key, addresses, ports, pods: selected.meshed })
}

fn addresses(key: &ObjectKey, spec: &k8s::ServiceSpec, report: &mut Report<'_>) -> Vec<IpAddr> {
    let mut written: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    if written.is_empty() {
        written.extend(spec.cluster_ip.as_deref());
    }
    written.retain(|address| !address.is_empty());
    if written.is_empty() {
        report.add(
            key,
            Finding::new("spec.clusterIP", Reason::Missing, "no address yet")
                .hint("it is given by Kubernetes or the local runner; until then only names of HTTP services work"),
        );
    }
    let mut addresses = BTreeSet::new();
    for address in written.into_iter().filter(|address| !address.eq_ignore_ascii_case("None")) {
        match address.parse::<IpAddr>() {
            Ok(address) => {
                addresses.insert(address);
            }
            Err(_) => report.add(
                key,
                Finding::new("spec.clusterIP", Reason::InvalidField, format!("{address:?} is not an IP address"))
                    .hint("leave it out to have one given"),
            ),
        }
    }
    addresses.into_iter().collect()
}

/// Takes a port from each service that claims an address and port that a service before it (by name) has:
/// a connection could not be told to be for one or the other.
fn settle_claims(drafts: &mut BTreeMap<ServiceName, ServiceDraft<'_>>, report: &mut Report<'_>) {
    let mut claims: BTreeMap<(IpAddr, u16), ServiceName> = BTreeMap::new();
    for (name, draft) in drafts {
        let addresses = &draft.addresses;
        draft.ports.retain(|number, port| {
            let first = addresses.iter().find_map(|address| Some((address, claims.get(&(*address, *number))?)));
            if let Some((address, first)) = first {
                let message = format!("{address}:{number} is Service {first}'s already; this port is left out");
                report.add(
                    &draft.key,
                    Finding::new(&port.field, Reason::Conflict, message).hint("give one of the two another clusterIP"),
                );
                return false;
            }
            claims.extend(addresses.iter().map(|address| ((*address, *number), name.clone())));
            true
        });
    }
}
