//! From Services and the pods that run to EndpointSlices, by the rules of Kubernetes. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use osm_api::{NamespacedName, World, k8s};
use osm_redirect::Family;

use crate::addresses::PodIps;
use crate::environment::NODE;
use crate::pod::containers;
use crate::services::families;

/// The label that ties a slice to its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// A slice of Kubernetes holds at most this many endpoints.
const ENDPOINTS_PER_SLICE: usize = 100;

/// A pod that has an address, and is not over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) pod: &'a k8s::Pod,
    pub(crate) ips: PodIps,
    pub(crate) is_ready: bool,
    pub(crate) is_terminating: bool,
}

/// The slices of every service of the World: those written down, and one or more for each service with a selector.
pub(crate) fn slices(world: &World, pods: &[Backend<'_>]) -> BTreeMap<NamespacedName, k8s::EndpointSlice> {
    let mut slices: BTreeMap<NamespacedName, k8s::EndpointSlice> =
        world.endpoint_slices.iter().map(|(name, slice)| (name.clone(), (**slice).clone())).collect();
    for (name, service) in &world.services {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { continue };
        let mut by_ports: BTreeMap<Vec<(Option<String>, i32)>, Vec<&Backend<'_>>> = BTreeMap::new();
        for backend in pods {
            let labels = backend.pod.metadata.labels.as_ref();
            let is_selected = selector.iter().all(|(label, value)| labels.and_then(|l| l.get(label)) == Some(value));
            if backend.pod.metadata.namespace.as_deref() != Some(&name.namespace) || !is_selected {
                continue;
            }
            by_ports.entry(target_ports(service, backend.pod)).or_default().push(backend);
        }
        // A service without pods has one slice without endpoints, so that it is known to have none.
        if by_ports.is_empty() {
            by_ports.insert(Vec::new(), Vec::new());
        }
        for family in families(service) {
            let groups = by_ports.iter().flat_map(|(ports, backends)| {
                let endpoints: Vec<k8s::Endpoint> =
                    backends.iter().filter_map(|backend| endpoint(service, backend, family)).collect();
                let mut parts: Vec<Vec<k8s::Endpoint>> =
                    endpoints.chunks(ENDPOINTS_PER_SLICE).map(<[k8s::Endpoint]>::to_vec).collect();
                if parts.is_empty() {
                    parts.push(Vec::new());
                }
                parts.into_iter().map(move |part| (ports, part))
            });
            for (index, (ports, endpoints)) in groups.enumerate() {
                let (mark, address_type) = match family {
                    Family::V4 => ("local", "IPv4"),
                    Family::V6 => ("local-v6", "IPv6"),
                };
                let slice_name = NamespacedName::new(&name.namespace, &format!("{}-{mark}-{index}", name.name));
                slices.insert(slice_name.clone(), slice(service, &slice_name, address_type, ports, endpoints));
            }
        }
    }
    slices
}

/// The slices of each service.
pub(crate) type ByService<'a> = BTreeMap<NamespacedName, Vec<&'a k8s::EndpointSlice>>;

/// The slices by the service that they name.
pub(crate) fn by_service(slices: &BTreeMap<NamespacedName, k8s::EndpointSlice>) -> ByService<'_> {
    let mut found = ByService::new();
    for slice in slices.values() {
        let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, label) {
            found.entry(NamespacedName::new(namespace, service)).or_default().push(slice);
        }
    }
    found
}

/// The addresses in the slices of one service that may be sent traffic, in order, each with the number that the
/// service's port has there.
pub(crate) fn ready_addresses(slices: &[&k8s::EndpointSlice], port: &k8s::ServicePort) -> Vec<SocketAddr> {
    let name = port.name.as_deref().unwrap_or_default();
    let found = slices.iter().flat_map(|slice| {
        let mut ports = slice.ports.iter().flatten();
        let number = ports.find(|p| p.name.as_deref().unwrap_or_default() == name).and_then(|p| p.port);
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.into_iter().flat_map(|number| ready(slice).map(move |address| SocketAddr::new(address, number)))
    });
    in_order(found)
}

/// The addresses in the slices of one service that may be sent traffic, in order.
pub(crate) fn ready_hosts(slices: &[&k8s::EndpointSlice]) -> Vec<IpAddr> {
    in_order(slices.iter().flat_map(|slice| ready(slice)))
}

fn ready(slice: &k8s::EndpointSlice) -> impl Iterator<Item = IpAddr> {
    // Unset means ready, as Kubernetes has it.
    let ready = slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    ready.flat_map(|endpoint| endpoint.addresses.iter().filter_map(|address| address.parse().ok()))
}

fn in_order<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// What each port of the service is in this pod; a named port that the pod does not have is left out.
fn target_ports(service: &k8s::Service, pod: &k8s::Pod) -> Vec<(Option<String>, i32)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = match &port.target_port {
                None => port.port,
                Some(k8s::IntOrString::Int(number)) if *number == 0 => port.port,
                Some(k8s::IntOrString::Int(number)) => *number,
                Some(k8s::IntOrString::String(name)) => named_port(pod, name, protocol(port))?,
            };
            Some((port.name.clone(), number))
        })
        .collect()
}

/// The number of a named port of a pod's containers.
pub(crate) fn named_port(pod: &k8s::Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = containers(pod.spec.as_ref()?).map(|(_, container)| container);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let is_it = |port: &&k8s::ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.find(is_it).map(|port| port.container_port)
}

fn protocol(port: &k8s::ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// None for a pod that has no address of the family.
fn endpoint(service: &k8s::Service, backend: &Backend<'_>, family: Family) -> Option<k8s::Endpoint> {
    let address = match family {
        Family::V4 => backend.ips.v4.to_string(),
        Family::V6 => backend.ips.v6?.to_string(),
    };
    let metadata = &backend.pod.metadata;
    let is_published = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    Some(k8s::Endpoint {
        addresses: vec![address],
        conditions: Some(k8s::EndpointConditions {
            ready: Some(is_published || (backend.is_ready && !backend.is_terminating)),
            serving: Some(is_published || backend.is_ready),
            terminating: Some(backend.is_terminating),
        }),
        node_name: Some(NODE.to_owned()),
        target_ref: Some(k8s::ObjectReference {
            kind: Some("Pod".into()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn slice(
    service: &k8s::Service,
    name: &NamespacedName,
    address_type: &str,
    ports: &[(Option<String>, i32)],
    endpoints: Vec<k8s::Endpoint>,
) -> k8s::EndpointSlice {
    let service_ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let by_name: BTreeMap<&Option<String>, &k8s::ServicePort> = service_ports.map(|p| (&p.name, p)).collect();
    let service_name = service.metadata.name.clone().unwrap_or_default();
    k8s::EndpointSlice {
        address_type: address_type.into(),
        metadata: k8s::ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(BTreeMap::from([(SERVICE_LABEL.to_owned(), service_name)])),
            ..Default::default()
        },
        endpoints: Some(endpoints),
        ports: Some(
            ports
                .iter()
                .map(|(port_name, number)| k8s::EndpointPort {
                    // Kubernetes writes the empty name of an only port.
                    name: Some(port_name.clone().unwrap_or_default()),
                    port: Some(*number),
                    protocol: Some(by_name.get(port_name).map_or("TCP", |p| protocol(p)).to_owned()),
                    app_protocol: by_name.get(port_name).and_then(|p| p.app_protocol.clone()),
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests;
