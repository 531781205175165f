//! The pods that should run: those of the World, and those of its Deployments and Jobs.

mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_api::{Kind, NamespacedName, ObjectKey, Problem, Reason, World, k8s};

use crate::support::{self, ProbedBy};
use crate::{admission, config_maps};

pub use workloads::{DesiredDeployment, DesiredJob, Replacement};

/// The runner's pods share one bridge, and the kernel gives a bridge 1,023 ports; half of that leaves room for pods
/// that are still stopping while their successors start.
pub const MAX_PODS: usize = 500;

/// The control plane's namespace; it exists without being written down.
pub const OSM_NAMESPACE: &str = "osm-system";

/// What should run, and what is wrong with the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The pods, by name: those written down, and those that Deployments come to in the end.
    pub pods: BTreeMap<NamespacedName, DesiredPod>,
    /// How the Deployments among their owners replace their pods.
    pub deployments: BTreeMap<NamespacedName, DesiredDeployment>,
    /// The Jobs. How many of their pods run depends on how those before them ended.
    pub jobs: BTreeMap<NamespacedName, DesiredJob>,
    /// Why others are not among them, and what is not carried out.
    pub problems: Vec<Problem>,
}

/// One pod that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredPod {
    /// As written down, or as the Deployment's template says.
    pub pod: Arc<k8s::Pod>,
    /// Changes whenever the pod must be replaced.
    pub revision: String,
    /// What it belongs to; none for a pod that was written down itself.
    pub owner: Option<Owner>,
}

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// One of its replicas.
    Deployment(NamespacedName),
    /// One of its tries.
    Job(NamespacedName),
}

impl Owner {
    /// Its name, if it is a Deployment.
    pub fn deployment(&self) -> Option<&NamespacedName> {
        match self {
            Owner::Deployment(name) => Some(name),
            Owner::Job(_) => None,
        }
    }

    /// Its name, if it is a Job.
    pub fn job(&self) -> Option<&NamespacedName> {
        match self {
            Owner::Job(name) => Some(name),
            Owner::Deployment(_) => None,
        }
    }

    /// The owner's key.
    pub fn key(&self) -> ObjectKey {
        match self {
            Owner::Deployment(name) => ObjectKey::new(Kind::Deployment, &name.namespace, &name.name),
            Owner::Job(name) => ObjectKey::new(Kind::Job, &name.namespace, &name.name),
        }
    }
}

/// What exists in every cluster without being written down: the namespaces `default` and `osm-system`, and the service
/// account `default` of each namespace.
pub fn completed(world: &World) -> World {
    let mut world = world.clone();
    for name in ["default", OSM_NAMESPACE] {
        let metadata = k8s::ObjectMeta { name: Some(name.into()), ..Default::default() };
        let namespace = k8s::Namespace { metadata, ..Default::default() };
        world.namespaces.entry(name.into()).or_insert_with(|| Arc::new(namespace));
    }
    for namespace in world.namespaces.keys() {
        let metadata =
            k8s::ObjectMeta { namespace: Some(namespace.clone()), name: Some("default".into()), ..Default::default() };
        let account = k8s::ServiceAccount { metadata, ..Default::default() };
        let name = NamespacedName::new(namespace, "default");
        world.service_accounts.entry(name).or_insert_with(|| Arc::new(account));
    }
    world
}

/// The pods that should run in a [`completed`] World.
pub fn desired(world: &World) -> Desired {
    let mut desired = Desired::default();
    for (name, pod) in &world.pods {
        let key = ObjectKey::new(Kind::Pod, &name.namespace, &name.name);
        let spec = pod.spec.clone().unwrap_or_default();
        desired.say_unsupported(
            world,
            &key,
            support::pod_problems(&key.to_string(), &spec, "spec", probed_by(world, pod)),
        );
        let wanted = DesiredPod { pod: pod.clone(), revision: revision(&**pod), owner: None };
        desired.add(world, &key, name.clone(), wanted, "spec");
    }
    for (name, deployment) in &world.deployments {
        desired.add_deployment(world, name, deployment);
    }
    for (name, job) in &world.jobs {
        desired.add_job(world, name, job);
    }
    for (name, service) in &world.services {
        let key = ObjectKey::new(Kind::Service, &name.namespace, &name.name);
        desired.say_unsupported(world, &key, support::service_problems(&key.to_string(), service));
        if !world.namespaces.contains_key(&name.namespace) {
            desired.problems.push(missing_namespace(world, &key));
        }
    }
    desired
}

/// Who will carry out the probes of a pod.
fn probed_by(world: &World, pod: &k8s::Pod) -> ProbedBy {
    let (policy, _) = admission::policy(world, "");
    let namespace = pod.metadata.namespace.as_ref().and_then(|name| world.namespaces.get(name));
    match namespace.is_some_and(|namespace| osm_inject::joins(pod, namespace, &policy)) {
        true => ProbedBy::Agent,
        false => ProbedBy::Runner,
    }
}

/// The same for pods of a template.
fn template_probed_by(world: &World, namespace: &str, template: &k8s::PodTemplateSpec) -> ProbedBy {
    let metadata = template.metadata.clone().unwrap_or_default();
    let metadata = k8s::ObjectMeta { namespace: Some(namespace.to_owned()), ..metadata };
    probed_by(world, &k8s::Pod { metadata, spec: template.spec.clone(), ..k8s::Pod::default() })
}

impl Desired {
    /// Whether the pod is wanted. If not, nor are the next ones of the same object, and the reason is a problem.
    fn add(&mut self, world: &World, key: &ObjectKey, name: NamespacedName, wanted: DesiredPod, prefix: &str) -> bool {
        if !self.is_possible(world, key, &wanted.pod.spec.clone().unwrap_or_default(), prefix) {
            return false;
        }
        if self.pods.len() >= MAX_PODS {
            let message = format!("the local runner runs at most {MAX_PODS} pods; this one is not started");
            self.refuse(world, key, "", Reason::Refused, &message, "ask for fewer replicas, or delete other pods");
            return false;
        }
        if self.pods.contains_key(&name) {
            let message = format!("pod {name} exists already under that name");
            self.refuse(world, key, "metadata.name", Reason::Conflict, &message, "rename one of the two");
            return false;
        }
        self.pods.insert(name, wanted);
        true
    }

    /// Whether such a pod can be; if not, the reason is a problem.
    fn is_possible(&mut self, world: &World, key: &ObjectKey, spec: &k8s::PodSpec, prefix: &str) -> bool {
        if !world.namespaces.contains_key(&key.namespace) {
            self.problems.push(missing_namespace(world, key));
            return false;
        }
        if spec.host_network == Some(true) {
            let field = format!("{prefix}.hostNetwork");
            let message = "a pod of the local runner has no host network to be in; the pod is not started";
            self.refuse(world, key, &field, Reason::Refused, message, "leave it out");
            return false;
        }
        if osm_inject::is_for_windows(spec) {
            let field = format!("{prefix}.os.name");
            let message = "the pod is for Windows; it is not started";
            self.refuse(world, key, &field, Reason::Refused, message, "leave it out");
            return false;
        }
        if spec.containers.is_empty() {
            let field = format!("{prefix}.containers");
            self.refuse(world, key, &field, Reason::InvalidField, "no container", "a pod has one container at least");
            return false;
        }
        let account = service_account(spec);
        if !world.service_accounts.contains_key(&NamespacedName::new(&key.namespace, account)) {
            let field = format!("{prefix}.serviceAccountName");
            let message = format!("service account {}/{account} does not exist; the pod waits for it", key.namespace);
            self.refuse(world, key, &field, Reason::Missing, &message, "apply a ServiceAccount of that name");
            return false;
        }
        let missing = config_maps::missing(world, &key.namespace, spec, prefix);
        for (field, what) in &missing {
            let message = format!("{what}; the pod waits for it");
            self.refuse(world, key, field, Reason::Missing, &message, "apply it, or mark it optional");
        }
        missing.is_empty()
    }

    fn refuse(&mut self, world: &World, key: &ObjectKey, field: &str, reason: Reason, message: &str, hint: &str) {
        let problem = Problem::new(key, reason, message).with_field(field).with_hint(hint);
        self.problems.push(problem.with_origin(world.origin(key).cloned()));
    }

    fn say_unsupported(&mut self, world: &World, key: &ObjectKey, problems: Vec<Problem>) {
        // Such a pod is refused by what follows, in stronger words.
        let said_elsewhere = |p: &Problem| p.field.ends_with("spec.hostNetwork");
        let problems = problems.into_iter().filter(|p| !said_elsewhere(p));
        self.problems.extend(problems.map(|p| p.with_origin(world.origin(key).cloned())));
    }
}

/// The service account that a pod runs as.
pub(crate) fn service_account(spec: &k8s::PodSpec) -> &str {
    let named = spec.service_account_name.as_deref().or(spec.service_account.as_deref());
    named.filter(|name| !name.is_empty()).unwrap_or("default")
}

fn missing_namespace(world: &World, key: &ObjectKey) -> Problem {
    Problem::new(key, Reason::Missing, format!("namespace {} does not exist; the object waits for it", key.namespace))
        .with_field("metadata.namespace")
        .with_hint("apply a Namespace of that name")
        .with_origin(world.origin(key).cloned())
}

/// A short name for what was written, in letters that make no words, as Kubernetes names templates.
fn revision(written: &impl serde::Serialize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_vec(written).expect("Kubernetes types have string keys only, so they are JSON");
    let mut hash = xxhash_rust::xxh3::xxh3_64(&text);
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        let letter = usize::try_from(hash % 27).expect("below 27");
        name.push(char::from(LETTERS[letter]));
        hash /= 27;
    }
    name
}

#[cfg(test)]
mod tests;
