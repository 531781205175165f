//! Endpoints: ready pods of the mesh behind each port of each service, from endpoint slices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use osm_api::{Kind, NamespacedName, ObjectKey, Reason, World, k8s};
use osm_model::{Endpoint, PodName, ServiceName};

use crate::pods::{MeshedPod, Pods};
use crate::report::{Finding, Report};
use crate::services::ServiceDraft;

/// Label on an EndpointSlice: the service that it is of (Kubernetes, discovery.k8s.io/v1).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A message names this many of the pods that are left out; the count says the rest.
const NAMED_PODS: usize = 3;

/// The endpoints of each service's port.
pub(crate) fn read(
    world: &World,
    namespaces: &BTreeSet<&str>,
    pods: &Pods<'_>,
    drafts: &BTreeMap<ServiceName, ServiceDraft<'_>>,
    report: &mut Report<'_>,
) -> BTreeMap<(ServiceName, u16), BTreeSet<Endpoint>> {
    let mut found: BTreeMap<(ServiceName, u16), BTreeMap<&PodName, BTreeSet<Endpoint>>> = BTreeMap::new();
    for (name, slice) in &world.endpoint_slices {
        if !namespaces.contains(name.namespace.as_str()) {
            continue;
        }
        let key = ObjectKey::new(Kind::EndpointSlice, &name.namespace, &name.name);
        let Some((service, draft)) = service_of(&key, slice, world, drafts, report) else { continue };
        let Some(family) = Family::of(&key, slice, report) else { continue };
        let addresses = addresses(&key, slice, family, pods, report);
        for (number, port) in &draft.ports {
            let targets = targets(&key, slice, port.name, report);
            let of_port = found.entry((service.clone(), *number)).or_default();
            for (address, pod) in &addresses {
                let endpoint =
                    |port: &u16| Endpoint { address: SocketAddr::new(*address, *port), identity: pod.identity.clone() };
                of_port.entry(&pod.name).or_default().extend(targets.iter().map(endpoint));
            }
        }
    }
    let chosen = found.into_iter().map(|((service, port), pods)| {
        let is_dialled_by_pod = drafts[&service].addresses.is_empty();
        let of_pods = pods.into_values();
        let chosen: BTreeSet<Endpoint> = match is_dialled_by_pod {
            true => of_pods.flatten().collect(),
            false => of_pods.flat_map(of_one_family).collect(),
        };
        ((service, port), chosen)
    });
    chosen.collect()
}

/// What a slice's addresses are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(key: &ObjectKey, slice: &k8s::EndpointSlice, report: &mut Report<'_>) -> Option<Family> {
        match slice.address_type.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            other => {
                let message = format!("{other} endpoints are not served; left out");
                report.add(
                    key,
                    Finding::new("addressType", Reason::Unsupported, message).hint("write addresses: IPv4 or IPv6"),
                );
                None
            }
        }
    }

    fn parse(self, address: &str) -> Option<IpAddr> {
        match self {
            Family::V4 => address.parse().ok().map(IpAddr::V4),
            Family::V6 => address.parse().ok().map(IpAddr::V6),
        }
    }

    /// As a message has it: the name, and an example.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Family::V4 => ("IPv4", "10.1.2.3"),
            Family::V6 => ("IPv6", "fd00::1:2:3"),
        }
    }
}

/// A pod is one endpoint, whatever the number of its addresses, and every proxy can reach the IPv4 one. Where a client
/// chooses the pod by dialling it, any of its addresses counts.
fn of_one_family(mut endpoints: BTreeSet<Endpoint>) -> BTreeSet<Endpoint> {
    if endpoints.iter().any(|endpoint| endpoint.address.is_ipv4()) {
        endpoints.retain(|endpoint| endpoint.address.is_ipv4());
    }
    endpoints
}

fn service_of<'d, 'w>(
    key: &ObjectKey,
    slice: &k8s::EndpointSlice,
    world: &World,
    drafts: &'d BTreeMap<ServiceName, ServiceDraft<'w>>,
    report: &mut Report<'_>,
) -> Option<(ServiceName, &'d ServiceDraft<'w>)> {
    let Some(name) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
        let message = format!("no label {SERVICE_NAME}, so no service has these endpoints");
        report.add(
            key,
            Finding::new("metadata.labels", Reason::Missing, message).hint("put the name of the service in the label"),
        );
        return None;
    };
    let service = ServiceName { namespace: key.namespace.clone(), name: name.clone() };
    if !world.services.contains_key(&NamespacedName::new(&key.namespace, name)) {
        report.add(
            key,
            Finding::new("metadata.labels", Reason::Missing, format!("there is no Service {service}"))
                .hint("add the service, or delete the slice"),
        );
    }
    // A service that is not of the mesh has said so itself.
    let draft = drafts.get(&service)?;
    Some((service, draft))
}

/// Addresses of the ready endpoints that are pods with a sidecar, and who answers there.
fn addresses<'p, 'w>(
    key: &ObjectKey,
    slice: &k8s::EndpointSlice,
    family: Family,
    pods: &'p Pods<'w>,
    report: &mut Report<'_>,
) -> BTreeMap<IpAddr, &'p MeshedPod<'w>> {
    let mut addresses = BTreeMap::new();
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        // Unknown counts as ready (Kubernetes, EndpointConditions).
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        let pod = pod_of(key, endpoint, pods);
        if !pod.map_or(is_ready, |pod| pod.is_served(is_ready)) {
            continue;
        }
        let Some(pod) = pod else {
            left_out.insert(endpoint_name(&key.namespace, endpoint));
            continue;
        };
        for address in &endpoint.addresses {
            match family.parse(address) {
                Some(address) => {
                    addresses.entry(address).or_insert(pod);
                }
                None => {
                    let ((name, example), field) = (family.words(), format!("endpoints[{index}].addresses"));
                    let message = format!("{address:?} is not an {name} address; left out");
                    report.add(
                        key,
                        Finding::new(field, Reason::InvalidField, message).hint(format!("write it as {example}")),
                    );
                }
            }
        }
    }
    if !left_out.is_empty() {
        let named = left_out.iter().take(NAMED_PODS).cloned().collect::<Vec<_>>().join(", ");
        let more = if left_out.len() > NAMED_PODS { ", ..." } else { "" };
        let message =
            format!("not pods of this namespace with a sidecar, left out: {} ({named}{more})", left_out.len());
        report.add(
            key,
            Finding::new("endpoints", Reason::Missing, message)
                .hint("make the pods anew in a namespace with sidecar injection"),
        );
    }
    addresses
}

/// The pod with a sidecar that an endpoint is.
fn pod_of<'p, 'w>(key: &ObjectKey, endpoint: &k8s::Endpoint, pods: &'p Pods<'w>) -> Option<&'p MeshedPod<'w>> {
    let target = endpoint.target_ref.as_ref()?;
    let namespace = target.namespace.as_deref().unwrap_or(&key.namespace);
    // A slice can speak for pods of its own namespace alone.
    if target.kind.as_deref() != Some("Pod") || namespace != key.namespace {
        return None;
    }
    pods.get(&NamespacedName::new(namespace, target.name.as_deref().unwrap_or_default()))
}

fn endpoint_name(namespace: &str, endpoint: &k8s::Endpoint) -> String {
    let address = endpoint.addresses.first().map_or("nowhere", String::as_str);
    let Some(target) = &endpoint.target_ref else { return address.to_owned() };
    let kind = target.kind.as_deref().unwrap_or_default();
    let name = NamespacedName::new(
        target.namespace.as_deref().unwrap_or(namespace),
        target.name.as_deref().unwrap_or_default(),
    );
    format!("{kind} {name}")
}

/// The pods' ports for one port of the service: equal names belong together.
fn targets(key: &ObjectKey, slice: &k8s::EndpointSlice, name: &str, report: &mut Report<'_>) -> Vec<u16> {
    let mut targets = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        let is_tcp = port.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case("TCP");
        if !is_tcp || port.name.as_deref().unwrap_or_default() != name {
            continue;
        }
        match port.port.map(crate::services::port_number) {
            Some(Some(number)) => targets.push(number),
            Some(None) | None => report.add(
                key,
                Finding::new(format!("ports[{index}].port"), Reason::InvalidField, "not a port; left out")
                    .hint("use a number from 1 to 65535"),
            ),
        }
    }
    targets
}
