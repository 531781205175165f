//! The pods of the mesh's namespaces, found by selector; those with a sidecar have an identity in the mesh.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{CONTAINERS_READY, Kind, NamespacedName, ObjectKey, PEERS_READY, Reason, World, is_injected, k8s};
use osm_model::{Identity, PodName};

use crate::report::{Finding, Report};
use crate::selection::LabelIndex;
use crate::{ResolveOptions, namespaces};

/// The service account of a pod that names none (Kubernetes, ServiceAccount admission).
pub(crate) const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// A pod with a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct MeshedPod<'w> {
    pub(crate) name: PodName,
    pub(crate) identity: Identity,
    pub(crate) object: &'w k8s::Pod,
}

/// The pods of the mesh's namespaces.
pub(crate) struct Pods<'w> {
    meshed: BTreeMap<&'w NamespacedName, MeshedPod<'w>>,
    by_label: LabelIndex<'w>,
}

/// What a selector selects.
pub(crate) struct Selected<'p, 'w> {
    pub(crate) meshed: Vec<&'p MeshedPod<'w>>,
    /// How many pods without a sidecar it selects beside them.
    pub(crate) others: usize,
}

impl MeshedPod<'_> {
    /// Whether its peers are to have it as an endpoint, of which its slice says whether it is ready.
    ///
    /// A pod whose readiness waits for its peers is served as soon as nothing else is missing: its containers are ready,
    /// the sidecar among them, which is when it is programmed. A pod that is to end is not served, whatever the slice
    /// says still.
    pub(crate) fn is_served(&self, is_ready_in_slice: bool) -> bool {
        if self.object.metadata.deletion_timestamp.is_some() {
            return false;
        }
        let gates = || self.object.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        let waits_for_peers = gates().any(|gate| gate.condition_type == PEERS_READY);
        let others = gates().map(|gate| gate.condition_type.as_str()).filter(|type_| *type_ != PEERS_READY);
        let is_ready = || others.chain([CONTAINERS_READY]).all(|type_| self.has(type_));
        is_ready_in_slice || (waits_for_peers && is_ready())
    }

    fn has(&self, condition: &str) -> bool {
        let conditions = self.object.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|it| it.type_ == condition && it.status == "True")
    }
}

impl<'w> Pods<'w> {
    pub(crate) fn read(
        world: &'w World,
        namespaces: &BTreeSet<&str>,
        options: &ResolveOptions,
        report: &mut Report<'_>,
    ) -> Pods<'w> {
        let mut pods = Pods { meshed: BTreeMap::new(), by_label: LabelIndex::default() };
        for (name, object) in &world.pods {
            let is_injected = is_injected(object);
            if !namespaces.contains(name.namespace.as_str()) {
                if is_injected && !namespaces::is_of_another_mesh(world, &name.namespace, options) {
                    report.add(
                        &ObjectKey::new(Kind::Pod, &name.namespace, &name.name),
                        Finding::new("", Reason::Missing, "has a sidecar, but its namespace is of no mesh")
                            .hint("add the namespace to the mesh, or make the pod anew without a sidecar"),
                    );
                }
                continue;
            }
            pods.by_label.insert(name, object.metadata.labels.as_ref());
            if is_injected {
                pods.meshed.insert(name, meshed(name, object));
            }
        }
        pods
    }

    pub(crate) fn meshed(&self) -> impl Iterator<Item = &MeshedPod<'w>> {
        self.meshed.values()
    }

    /// The pod of this name, if it has a sidecar.
    pub(crate) fn get(&self, name: &NamespacedName) -> Option<&MeshedPod<'w>> {
        self.meshed.get(name)
    }

    pub(crate) fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Selected<'_, 'w> {
        let names = self.by_label.selected(namespace, selector);
        let meshed: Vec<_> = names.iter().filter_map(|name| self.meshed.get(*name)).collect();
        let others = names.len() - meshed.len();
        Selected { meshed, others }
    }
}

fn meshed<'w>(name: &NamespacedName, object: &'w k8s::Pod) -> MeshedPod<'w> {
    let account = object.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let service_account = account.filter(|account| !account.is_empty()).unwrap_or(DEFAULT_SERVICE_ACCOUNT).to_owned();
    MeshedPod {
        name: PodName { namespace: name.namespace.clone(), name: name.name.clone() },
        identity: Identity { namespace: name.namespace.clone(), service_account },
        object,
    }
}
