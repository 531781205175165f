//! What exists, as files that the controller watches: one object a file, each replaced at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use osm_api::{CONTAINERS_READY, Kind, Object, ObjectKey, World, k8s};

use crate::addresses::GATEWAY;
use crate::pod::Role;
use crate::pod_task::PodReport;
use crate::services::ClusterIps;
use crate::status::{ContainerState, ContainerStatus};

/// Whose objects are published together: each layer changes at times of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// What was written down, services with their addresses.
    Written,
    /// The pods as they run.
    Pods,
    /// The endpoints of services.
    Endpoints,
}

/// The objects of [`Layer::Written`]: the World without pods and slices, and without what is in namespaces that do not
/// exist.
pub(crate) fn written(world: &World, addresses: &ClusterIps) -> Vec<Object> {
    let others = world.keys().into_iter().filter(|key| match key.kind {
        // The controller has no use for these.
        Kind::Job | Kind::ConfigMap => false,
        Kind::Pod | Kind::EndpointSlice | Kind::Service => false,
        Kind::Namespace => true,
        Kind::MeshConfig
        | Kind::ServiceAccount
        | Kind::Deployment
        | Kind::HttpRouteGroup
        | Kind::TcpRoute
        | Kind::TrafficTarget => world.namespaces.contains_key(&key.namespace),
    });
    let mut objects: Vec<Object> = others.filter_map(|key| world.get(&key)).collect();
    let services = world.services.iter().filter(|(name, _)| world.namespaces.contains_key(&name.namespace));
    objects.extend(services.map(|(name, service)| Object::Service(with_addresses(service, addresses.get(name)))));
    objects
}

/// A directory, and what is in it.
#[derive(Debug)]
pub(crate) struct Publisher {
    directory: PathBuf,
    published: BTreeMap<Layer, BTreeMap<ObjectKey, Object>>,
}

impl Publisher {
    /// For a directory that is empty.
    pub(crate) fn new(directory: PathBuf) -> Publisher {
        Publisher { directory, published: BTreeMap::new() }
    }

    /// Makes the directory hold exactly these objects of one layer. Only what changed is written, and what is new is there
    /// before what is old goes.
    pub(crate) fn publish(&mut self, layer: Layer, objects: Vec<Object>) -> io::Result<()> {
        let published = self.published.entry(layer).or_default();
        let new: BTreeMap<ObjectKey, Object> = objects.into_iter().map(|object| (object.key(), object)).collect();
        let gone: Vec<ObjectKey> = published.keys().filter(|key| !new.contains_key(key)).cloned().collect();
        let mut changed: Vec<_> = new.into_iter().filter(|(key, object)| published.get(key) != Some(object)).collect();
        changed.sort_by_key(|(key, _)| turn(key));
        for (key, object) in changed {
            // The watcher reads names that end in .json only.
            let name = file_name(&key);
            let beside = self.directory.join(format!(".{name}.new"));
            fs::write(&beside, object.to_manifest().to_string())?;
            fs::rename(&beside, self.directory.join(&name))?;
            published.insert(key, object);
        }
        for key in gone {
            fs::remove_file(self.directory.join(file_name(&key)))?;
            published.remove(&key);
        }
        Ok(())
    }
}

/// Who watches may look between two files. A MeshConfig that turns policies on comes after the policies, or for a moment
/// nobody would be granted anything.
fn turn(key: &ObjectKey) -> u8 {
    u8::from(key.kind == Kind::MeshConfig)
}

/// Whether a file has this name because an object of the kind is in it.
pub(crate) fn is_file_of(kind: Kind, file: &str) -> bool {
    file.split('.').next() == Some(&kind.name().to_ascii_lowercase())
}

fn file_name(key: &ObjectKey) -> String {
    let kind = key.kind.name().to_ascii_lowercase();
    match key.namespace.as_str() {
        "" => format!("{kind}.{}.json", key.name),
        namespace => format!("{kind}.{namespace}.{}.json", key.name),
    }
}

/// The pod as it runs, with the status that others may read.
pub(crate) fn with_status(report: &PodReport) -> k8s::Pod {
    let status = &report.status;
    let condition = |type_: &str, is_true: bool| k8s::PodCondition {
        type_: type_.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        ..Default::default()
    };
    let ips = status.ip.map(|ip| ip.to_string()).into_iter().chain(status.ipv6.map(|ip| ip.to_string()));
    let ips: Vec<k8s::PodIP> = ips.map(|ip| k8s::PodIP { ip }).collect();
    let mut pod = (*report.pod).clone();
    pod.metadata.deletion_timestamp = report.stopping_since.map(Time);
    let mut conditions = status.conditions.clone();
    conditions.push(condition(CONTAINERS_READY, report.has_ready_containers));
    conditions.push(condition("Ready", status.ready));
    pod.status = Some(k8s::PodStatus {
        phase: Some(format!("{:?}", status.phase)),
        pod_ip: ips.first().map(|first| first.ip.clone()),
        pod_ips: Some(ips).filter(|ips| !ips.is_empty()),
        host_ip: Some(GATEWAY.to_string()),
        conditions: Some(conditions),
        container_statuses: Some(status.containers.iter().filter_map(over).collect()),
        reason: Some(status.reason.clone()).filter(|reason| !reason.is_empty()),
        ..Default::default()
    });
    pod
}

/// An application's container that has ended and is not started again.
fn over(status: &ContainerStatus) -> Option<k8s::ContainerStatus> {
    let ended = (status.role == Role::App && status.state == ContainerState::Exited).then_some(status.exit_code?)?;
    let terminated = k8s::ContainerStateTerminated { exit_code: ended, ..Default::default() };
    Some(k8s::ContainerStatus {
        name: status.name.clone(),
        state: Some(k8s::ContainerState { terminated: Some(terminated), ..Default::default() }),
        ..Default::default()
    })
}

fn with_addresses(service: &k8s::Service, addresses: Option<&Vec<IpAddr>>) -> k8s::Service {
    let mut service = service.clone();
    let spec = service.spec.get_or_insert_default();
    if let Some(addresses) = addresses {
        let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        spec.cluster_ip = texts.first().cloned();
        spec.cluster_ips = Some(texts);
    }
    service
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::{ManifestSet, NamespacedName};

    #[test]
    fn what_is_published_is_read_again_as_the_same_objects() {
        let text = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: nowhere}}
";
        let mut world = World::default();
        for change in ManifestSet::default().put("test.yaml", text).changes {
            world.apply(change);
        }
        let web = NamespacedName::new("shop", "web");
        let addresses = BTreeMap::from([(web.clone(), vec![IpAddr::from([10, 96, 7, 7])])]);
        let directory = folder("written");
        Publisher::new(directory.clone()).publish(Layer::Written, written(&world, &addresses)).unwrap();
        assert_eq!(names(&directory), ["namespace.shop.json", "service.shop.web.json"]);
        let mut again = World::default();
        let mut set = ManifestSet::default();
        for name in names(&directory) {
            let update = set.put(&name, &fs::read_to_string(directory.join(&name)).unwrap());
            assert_eq!(update.problems, vec![]);
            update.changes.into_iter().for_each(|change| {
                again.apply(change);
            });
        }
        let spec = again.services[&web].spec.clone().unwrap();
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.7.7"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_layer_holds_what_was_published_last_and_leaves_the_others_alone() {
        let directory = folder("layers");
        let object = |name: &str| {
            let metadata = k8s::ObjectMeta { name: Some(name.into()), ..Default::default() };
            Object::Namespace(k8s::Namespace { metadata, ..Default::default() })
        };
        let mut publisher = Publisher::new(directory.clone());
        publisher.publish(Layer::Written, vec![object("a"), object("b")]).unwrap();
        publisher.publish(Layer::Pods, vec![object("p")]).unwrap();
        publisher.publish(Layer::Written, vec![object("b"), object("c")]).unwrap();
        assert_eq!(names(&directory), ["namespace.b.json", "namespace.c.json", "namespace.p.json"]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_mesh_config_comes_after_all_that_it_puts_in_force() {
        let directory = folder("order");
        let text = "
{apiVersion: v1, kind: Namespace, metadata: {name: osm-system}}
---
{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig,
 metadata: {name: osm-mesh-config, namespace: osm-system}, spec: {}}
---
{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {name: t, namespace: osm-system},
 spec: {destination: {kind: ServiceAccount, name: a}, sources: [{kind: ServiceAccount, name: b}]}}
";
        let mut world = World::default();
        for change in ManifestSet::default().put("test.yaml", text).changes {
            world.apply(change);
        }
        // Nothing comes after a file that cannot be written: a directory is in its place.
        fs::create_dir_all(directory.join("meshconfig.osm-system.osm-mesh-config.json/in-the-way")).unwrap();
        let mut publisher = Publisher::new(directory.clone());
        publisher.publish(Layer::Written, written(&world, &BTreeMap::new())).unwrap_err();
        assert!(names(&directory).contains(&"traffictarget.osm-system.t.json".to_owned()));
        fs::remove_dir_all(directory).unwrap();
    }

    fn folder(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("osm-local-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn names(directory: &PathBuf) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
