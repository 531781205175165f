//! The World: every object that the cluster says exists, each as it was last said.
//!
//! Invariants: the order in which different objects are applied does not matter; applying twice is once;
//! a change of status or bookkeeping alone changes nothing, but for the little of a pod's status that decisions rest on
//! ([`pod_status`]).

pub(crate) mod pod_status;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    HttpRouteGroup, Kind, MeshConfig, NamespacedName, Object, ObjectKey, Origin, TcpRoute, TrafficTarget, k8s,
};

/// One thing that happened to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object exists and is this.
    Apply(Box<Object>, Option<Origin>),
    /// The object is gone.
    Delete(ObjectKey),
}

/// Whether a [`Change`] said anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The World is what it was.
    Nothing,
    /// Something that may matter to the mesh is different.
    Something,
}

/// Every object of the cluster, by kind and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Arc<k8s::Namespace>>,
    /// Service accounts.
    pub service_accounts: BTreeMap<NamespacedName, Arc<k8s::ServiceAccount>>,
    /// Services.
    pub services: BTreeMap<NamespacedName, Arc<k8s::Service>>,
    /// Endpoint slices.
    pub endpoint_slices: BTreeMap<NamespacedName, Arc<k8s::EndpointSlice>>,
    /// Pods.
    pub pods: BTreeMap<NamespacedName, Arc<k8s::Pod>>,
    /// Deployments.
    pub deployments: BTreeMap<NamespacedName, Arc<k8s::Deployment>>,
    /// Jobs.
    pub jobs: BTreeMap<NamespacedName, Arc<k8s::Job>>,
    /// Texts for pods.
    pub config_maps: BTreeMap<NamespacedName, Arc<k8s::ConfigMap>>,
    /// Mesh settings; only one of them counts.
    pub mesh_configs: BTreeMap<NamespacedName, Arc<MeshConfig>>,
    /// Sets of HTTP requests.
    pub http_route_groups: BTreeMap<NamespacedName, Arc<HttpRouteGroup>>,
    /// Sets of TCP ports.
    pub tcp_routes: BTreeMap<NamespacedName, Arc<TcpRoute>>,
    /// Grants.
    pub traffic_targets: BTreeMap<NamespacedName, Arc<TrafficTarget>>,
    origins: BTreeMap<ObjectKey, Origin>,
}

impl World {
    /// Takes in one change and says whether it changed anything but status and bookkeeping.
    pub fn apply(&mut self, change: Change) -> Changed {
        match change {
            Change::Apply(object, origin) => {
                match origin {
                    Some(origin) => self.origins.insert(object.key(), origin),
                    None => self.origins.remove(&object.key()),
                };
                self.put(strip(*object))
            }
            Change::Delete(key) => {
                self.origins.remove(&key);
                self.remove(&key)
            }
        }
    }

    /// Where an object was written down, if it came from a manifest.
    pub fn origin(&self, key: &ObjectKey) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// The object of a key.
    pub fn get(&self, key: &ObjectKey) -> Option<Object> {
        let name = key.namespaced_name();
        match key.kind {
            Kind::Namespace => self.namespaces.get(&key.name).map(|o| Object::Namespace((**o).clone())),
            Kind::ServiceAccount => self.service_accounts.get(&name).map(|o| Object::ServiceAccount((**o).clone())),
            Kind::Service => self.services.get(&name).map(|o| Object::Service((**o).clone())),
            Kind::EndpointSlice => self.endpoint_slices.get(&name).map(|o| Object::EndpointSlice((**o).clone())),
            Kind::Pod => self.pods.get(&name).map(|o| Object::Pod((**o).clone())),
            Kind::Deployment => self.deployments.get(&name).map(|o| Object::Deployment((**o).clone())),
            Kind::Job => self.jobs.get(&name).map(|o| Object::Job((**o).clone())),
            Kind::ConfigMap => self.config_maps.get(&name).map(|o| Object::ConfigMap((**o).clone())),
            Kind::MeshConfig => self.mesh_configs.get(&name).map(|o| Object::MeshConfig((**o).clone())),
            Kind::HttpRouteGroup => self.http_route_groups.get(&name).map(|o| Object::HttpRouteGroup((**o).clone())),
            Kind::TcpRoute => self.tcp_routes.get(&name).map(|o| Object::TcpRoute((**o).clone())),
            Kind::TrafficTarget => self.traffic_targets.get(&name).map(|o| Object::TrafficTarget((**o).clone())),
        }
    }

    /// The keys of every object, in order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        fn of<T>(kind: Kind, map: &BTreeMap<NamespacedName, T>) -> impl Iterator<Item = ObjectKey> {
            map.keys().map(move |n| ObjectKey::new(kind, &n.namespace, &n.name))
        }
        let mut keys: Vec<ObjectKey> = self.namespaces.keys().map(|n| ObjectKey::new(Kind::Namespace, "", n)).collect();
        keys.extend(of(Kind::MeshConfig, &self.mesh_configs));
        keys.extend(of(Kind::ServiceAccount, &self.service_accounts));
        keys.extend(of(Kind::ConfigMap, &self.config_maps));
        keys.extend(of(Kind::HttpRouteGroup, &self.http_route_groups));
        keys.extend(of(Kind::TcpRoute, &self.tcp_routes));
        keys.extend(of(Kind::TrafficTarget, &self.traffic_targets));
        keys.extend(of(Kind::Service, &self.services));
        keys.extend(of(Kind::EndpointSlice, &self.endpoint_slices));
        keys.extend(of(Kind::Deployment, &self.deployments));
        keys.extend(of(Kind::Job, &self.jobs));
        keys.extend(of(Kind::Pod, &self.pods));
        keys
    }

    fn put(&mut self, object: Object) -> Changed {
        let name = object.key().namespaced_name();
        match object {
            Object::Namespace(o) => put(&mut self.namespaces, name.name, o),
            Object::ServiceAccount(o) => put(&mut self.service_accounts, name, o),
            Object::Service(o) => put(&mut self.services, name, o),
            Object::EndpointSlice(o) => put(&mut self.endpoint_slices, name, o),
            Object::Pod(o) => self.put_pod(name, o),
            Object::Deployment(o) => put(&mut self.deployments, name, o),
            Object::Job(o) => put(&mut self.jobs, name, o),
            Object::ConfigMap(o) => put(&mut self.config_maps, name, o),
            Object::MeshConfig(o) => put(&mut self.mesh_configs, name, o),
            Object::HttpRouteGroup(o) => put(&mut self.http_route_groups, name, o),
            Object::TcpRoute(o) => put(&mut self.tcp_routes, name, o),
            Object::TrafficTarget(o) => put(&mut self.traffic_targets, name, o),
        }
    }

    /// What the controller itself wrote into the pod's status is taken in, and is no news.
    fn put_pod(&mut self, name: NamespacedName, pod: k8s::Pod) -> Changed {
        let before = self.pods.get(&name).cloned();
        let changed = put(&mut self.pods, name.clone(), pod);
        let is_same = |before: &k8s::Pod| pod_status::is_same_but_ours(before, &self.pods[&name]);
        if changed == Changed::Something && before.is_some_and(|before| is_same(&before)) {
            return Changed::Nothing;
        }
        changed
    }

    fn remove(&mut self, key: &ObjectKey) -> Changed {
        let name = key.namespaced_name();
        let found = match key.kind {
            Kind::Namespace => self.namespaces.remove(&key.name).is_some(),
            Kind::ServiceAccount => self.service_accounts.remove(&name).is_some(),
            Kind::Service => self.services.remove(&name).is_some(),
            Kind::EndpointSlice => self.endpoint_slices.remove(&name).is_some(),
            Kind::Pod => self.pods.remove(&name).is_some(),
            Kind::Deployment => self.deployments.remove(&name).is_some(),
            Kind::Job => self.jobs.remove(&name).is_some(),
            Kind::ConfigMap => self.config_maps.remove(&name).is_some(),
            Kind::MeshConfig => self.mesh_configs.remove(&name).is_some(),
            Kind::HttpRouteGroup => self.http_route_groups.remove(&name).is_some(),
            Kind::TcpRoute => self.tcp_routes.remove(&name).is_some(),
            Kind::TrafficTarget => self.traffic_targets.remove(&name).is_some(),
        };
        if found { Changed::Something } else { Changed::Nothing }
    }
}

fn put<K: Ord, T: PartialEq>(map: &mut BTreeMap<K, Arc<T>>, key: K, object: T) -> Changed {
    if map.get(&key).is_some_and(|old| **old == object) {
        return Changed::Nothing;
    }
    map.insert(key, Arc::new(object));
    Changed::Something
}

/// Takes away what no decision may rest on, so that it cannot cause a push.
fn strip(mut object: Object) -> Object {
    let metadata = object.metadata_mut();
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.generation = None;
    match &mut object {
        Object::Namespace(o) => o.status = None,
        Object::Service(o) => o.status = None,
        Object::Pod(o) => pod_status::strip(o),
        Object::Deployment(o) => o.status = None,
        Object::Job(o) => o.status = None,
        Object::ServiceAccount(_)
        | Object::ConfigMap(_)
        | Object::EndpointSlice(_)
        | Object::MeshConfig(_)
        | Object::HttpRouteGroup(_)
        | Object::TcpRoute(_)
        | Object::TrafficTarget(_) => {}
    }
    object
}

#[cfg(test)]
mod tests;
