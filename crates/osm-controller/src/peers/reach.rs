//! Who has to know of a pod, and who knows what. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use osm_api::{World, k8s};
use osm_model::{Mesh, PodName, ServiceName};
use osm_translate::{endpoint_addresses, service_cluster};
use osm_xds::{Resource, ResourceType, Resources};

use super::answers::Peer;
use crate::control::Snapshot;
use crate::proxies::resources;

/// Load assignments are read once for all who have the same; with more than this many it begins anew.
const READ_MAX: usize = 4096;

/// What peers shall know of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// That it is an endpoint.
    Present,
    /// That it is none any more.
    Absent,
}

/// Where a pod is, or would be, in the load assignments of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its addresses.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// The load assignments by name, those of one service together.
    pub(super) services: BTreeMap<ServiceName, Vec<String>>,
}

/// The addresses of load assignments by the assignments' versions.
#[derive(Debug, Default)]
pub(super) struct Assignments(BTreeMap<String, Arc<BTreeSet<IpAddr>>>);

impl Place {
    /// Of a pod: the services that select it and that clients have a load assignment for.
    pub(super) fn of(pod: &k8s::Pod, world: &World, mesh: &Mesh) -> Place {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
        let addresses = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok()).collect();
        let of_namespace = mesh.services.values().filter(|service| service.name.namespace == namespace);
        // Clients of a headless service dial its pods themselves.
        let listed = of_namespace.filter(|service| !service.addresses.is_empty() && !service.ports.is_empty());
        let selecting = listed.filter(|service| is_selected(pod, &service.name, world));
        let names = selecting.map(|service| {
            let names = service.ports.keys().map(|port| service_cluster(&service.name, *port));
            (service.name.clone(), names.collect())
        });
        Place { addresses, services: names.collect() }
    }

    /// Whether anybody can have it as an endpoint.
    pub(super) fn is_nowhere(&self) -> bool {
        self.services.is_empty() || self.addresses.is_empty()
    }

    /// The first of its services that has no endpoint for it, though it should: its slice is not there yet.
    pub(super) fn unlisted<'s>(&'s self, mesh: &Mesh) -> Option<&'s ServiceName> {
        let is_listed = |name: &ServiceName| {
            let ports = mesh.services.get(name).into_iter().flat_map(|service| service.ports.values());
            let mut endpoints = ports.flat_map(|port| &port.endpoints);
            endpoints.any(|endpoint| self.addresses.contains(&endpoint.address.ip()))
        };
        self.services.keys().find(|name| !is_listed(name))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.services.values().flatten()
    }

    /// Whether somebody who shall have `current` has to know: it has an assignment with the pod in it, or that had it.
    pub(super) fn concerns(&self, current: &Resources, what: Presence, read: &mut Assignments) -> bool {
        self.names().filter_map(|name| current.get(ResourceType::Endpoint, name)).any(|assignment| match what {
            Presence::Present => self.is_in(assignment, read),
            Presence::Absent => true,
        })
    }

    /// Whether a proxy that shall have `current` has not answered yet for what it is to know.
    pub(super) fn is_awaited(&self, peer: &Peer, current: &Resources, what: Presence, read: &mut Assignments) -> bool {
        if peer.is_given_up {
            return false;
        }
        let Some(answered) = &peer.answered else { return self.concerns(current, what, read) };
        self.names().any(|name| {
            let has = answered.get(ResourceType::Endpoint, name).is_some_and(|it| self.is_in(it, read));
            match (what, current.get(ResourceType::Endpoint, name)) {
                (Presence::Present, Some(current)) => !has && self.is_in(current, read),
                (Presence::Absent, Some(_)) => has,
                (Presence::Present | Presence::Absent, None) => false,
            }
        })
    }

    fn is_in(&self, assignment: &Resource, read: &mut Assignments) -> bool {
        let addresses = read.of(assignment);
        self.addresses.iter().any(|address| addresses.contains(address))
    }
}

impl Assignments {
    fn of(&mut self, assignment: &Resource) -> Arc<BTreeSet<IpAddr>> {
        if self.0.len() > READ_MAX {
            self.0.clear();
        }
        let read = self.0.entry(assignment.version.clone());
        read.or_insert_with(|| Arc::new(endpoint_addresses(assignment))).clone()
    }
}

/// How many proxies have to know that are not connected here, though they run: to another controller, or to none for
/// the moment.
pub(super) fn elsewhere(
    place: &Place,
    what: Presence,
    but: &PodName,
    snapshot: &Snapshot,
    here: &BTreeSet<&PodName>,
    read: &mut Assignments,
) -> usize {
    let runs = |pod: &PodName| {
        let name = osm_api::NamespacedName::new(&pod.namespace, &pod.name);
        snapshot.world.pods.get(&name).is_some_and(|pod| has_ready_containers(pod) && !is_terminating(pod))
    };
    let others = snapshot.mesh.proxies.iter().filter(|(pod, _)| *pod != but && !here.contains(pod) && runs(pod));
    let mut concerned: BTreeMap<&osm_model::ProxyClass, bool> = BTreeMap::new();
    let concerned = others.filter(|(_, class)| {
        *concerned
            .entry(*class)
            .or_insert_with(|| snapshot.classes.get(*class).is_some_and(|current| place.concerns(current, what, read)))
    });
    concerned.count()
}

/// What a proxy that is connected shall have.
pub(super) fn current(snapshot: &Snapshot, peer: &Peer) -> Option<Arc<Resources>> {
    resources(snapshot, &peer.proxy)
}

/// Whether every container of the pod is ready, as Kubernetes says; the sidecar is only when it is programmed.
pub(super) fn has_ready_containers(pod: &k8s::Pod) -> bool {
    crate::pod_conditions::in_world(pod, osm_api::CONTAINERS_READY).is_some_and(|condition| condition.status == "True")
}

/// Whether the pod is to end.
pub(super) fn is_terminating(pod: &k8s::Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_selected(pod: &k8s::Pod, service: &ServiceName, world: &World) -> bool {
    let name = osm_api::NamespacedName::new(&service.namespace, &service.name);
    let spec = world.services.get(&name).and_then(|service| service.spec.as_ref());
    let Some(selector) = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty()) else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(label, value)| labels.and_then(|labels| labels.get(label)) == Some(value))
}
