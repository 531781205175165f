//! Endpoints: ready pods of the mesh behind each port of each service, from endpoint slices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use osm_api::{Kind, NamespacedName, ObjectKey, Reason, World, k8s};
use osm_model::{Endpoint, Identity, ServiceName};

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
    let mut endpoints: BTreeMap<(ServiceName, u16), BTreeSet<Endpoint>> = BTreeMap::new();
    for (name, slice) in &world.endpoint_slices {
        if !namespaces.contains(name.namespace.as_str()) {
            continue;
        }
        let key = ObjectKey::new(Kind::EndpointSlice, &name.namespace, &name.name);
        let Some((service, draft)) = service_of(&key, slice, world, drafts, report) else { continue };
        // Pods are redirected in IPv4 alone, so nobody would answer for the mesh on another address.
        if slice.address_type != "IPv4" {
            unsupported_family(&key, slice, draft, report);
            continue;
        }
        let addresses = addresses(&key, slice, pods, report);
        for (number, port) in &draft.ports {
            for target in targets(&key, slice, port.name, report) {
                let found = addresses.iter().map(|(address, identity)| Endpoint {
                    address: SocketAddr::new(*address, target),
                    identity: identity.clone(),
                });
                endpoints.entry((service.clone(), *number)).or_default().extend(found);
            }
        }
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

fn unsupported_family(key: &ObjectKey, slice: &k8s::EndpointSlice, draft: &ServiceDraft<'_>, report: &mut Report<'_>) {
    let has_ipv4 = draft.addresses.iter().any(IpAddr::is_ipv4);
    if !has_ipv4 {
        let message = format!("{} endpoints are not served yet; left out", slice.address_type);
        report.add(
            key,
            Finding::new("addressType", Reason::Unsupported, message).hint("give the service an IPv4 address too"),
        );
    }
}

/// Addresses of the ready endpoints that are pods with a sidecar, and who answers there.
fn addresses(
    key: &ObjectKey,
    slice: &k8s::EndpointSlice,
    pods: &Pods<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<IpAddr, Identity> {
    let mut addresses = BTreeMap::new();
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        // Unknown counts as ready (Kubernetes, EndpointConditions).
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        let pod = pod_of(key, endpoint, pods);
        if !pod.map_or(is_ready, |pod| pod.is_served(is_ready)) {
            continue;
        }
        let Some(identity) = pod.map(|pod| &pod.identity) else {
            left_out.insert(endpoint_name(&key.namespace, endpoint));
            continue;
        };
        for address in &endpoint.addresses {
            match address.parse::<Ipv4Addr>() {
                Ok(address) => {
                    addresses.entry(IpAddr::V4(address)).or_insert_with(|| identity.clone());
                }
                Err(_) => report.add(
                    key,
                    Finding::new(
                        format!("endpoints[{index}].addresses"),
                        Reason::InvalidField,
                        format!("{address:?} is not an IPv4 address; left out"),
                    )
                    .hint("write it as 10.1.2.3"),
                ),
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
