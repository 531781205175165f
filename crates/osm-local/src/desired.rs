//! The pods that should run: those of the World, and those of its Deployments.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_api::{Kind, NamespacedName, ObjectKey, Problem, Reason, World, k8s};

use crate::support;

/// The runner's pods share one bridge, and the kernel gives a bridge 1,023 ports; half of that leaves room for pods
/// that are still stopping while their successors start.
pub const MAX_PODS: usize = 500;

/// The control plane's namespace; it exists without being written down.
pub const OSM_NAMESPACE: &str = "osm-system";

/// The label that tells the pods of one template of a Deployment from those of another, as in Kubernetes.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What should run, and what is wrong with the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The pods, by name.
    pub pods: BTreeMap<NamespacedName, DesiredPod>,
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
    /// The Deployment that it belongs to, and how that replaces its pods.
    pub deployment: Option<(NamespacedName, Replacement)>,
}

/// How a Deployment gets from one template to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The old pods end when the new ones are ready.
    Rolling,
    /// The new pods start when the old ones are gone.
    Recreate,
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
        desired.say_unsupported(world, &key, support::pod_problems(&key.to_string(), &spec, "spec"));
        let wanted = DesiredPod { pod: pod.clone(), revision: revision(&**pod), deployment: None };
        desired.add(world, &key, name.clone(), wanted, "spec");
    }
    for (name, deployment) in &world.deployments {
        desired.add_deployment(world, name, deployment);
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

impl Desired {
    fn add_deployment(&mut self, world: &World, name: &NamespacedName, deployment: &k8s::Deployment) {
        let key = ObjectKey::new(Kind::Deployment, &name.namespace, &name.name);
        let subject = key.to_string();
        let spec = &deployment.spec;
        let pod_spec = spec.template.spec.clone().unwrap_or_default();
        let mut unsupported = support::deployment_problems(&subject, deployment);
        unsupported.extend(support::pod_problems(&subject, &pod_spec, "spec.template.spec"));
        self.say_unsupported(world, &key, unsupported);
        let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        let selector = spec.selector.match_labels.clone().unwrap_or_default();
        if selector.is_empty() || selector.iter().any(|(label, value)| labels.get(label) != Some(value)) {
            let hint = "write the same labels in spec.selector.matchLabels and spec.template.metadata.labels";
            let message = "does not select the pods of its own template; no pod is started";
            return self.refuse(world, &key, "spec.selector.matchLabels", Reason::InvalidField, message, hint);
        }
        if !matches!(pod_spec.restart_policy.as_deref(), None | Some("Always")) {
            let field = "spec.template.spec.restartPolicy";
            let message = "a Deployment's pods restart always; no pod is started";
            return self.refuse(world, &key, field, Reason::InvalidField, message, "leave it out, or write a Pod");
        }
        let is_recreated = spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
        let replacement = if is_recreated { Replacement::Recreate } else { Replacement::Rolling };
        let revision = revision(&spec.template);
        let replicas = spec.replicas.unwrap_or(1).max(0);
        for index in 0..usize::try_from(replicas).expect("not negative") {
            let pod_name = NamespacedName::new(&name.namespace, &format!("{}-{revision}-{index}", name.name));
            let pod = template_pod(deployment, spec, &pod_name, &revision);
            let wanted = DesiredPod {
                pod: Arc::new(pod),
                revision: revision.clone(),
                deployment: Some((name.clone(), replacement)),
            };
            if !self.add(world, &key, pod_name, wanted, "spec.template.spec") {
                break;
            }
        }
    }

    /// Whether the pod is wanted. If not, nor are the next ones of the same object, and the reason is a problem.
    fn add(&mut self, world: &World, key: &ObjectKey, name: NamespacedName, wanted: DesiredPod, prefix: &str) -> bool {
        if !world.namespaces.contains_key(&key.namespace) {
            self.problems.push(missing_namespace(world, key));
            return false;
        }
        let spec = wanted.pod.spec.clone().unwrap_or_default();
        if spec.host_network == Some(true) {
            let field = format!("{prefix}.hostNetwork");
            let message = "a pod of the local runner has no host network to be in; the pod is not started";
            self.refuse(world, key, &field, Reason::Refused, message, "leave it out");
            return false;
        }
        if spec.containers.is_empty() {
            let field = format!("{prefix}.containers");
            self.refuse(world, key, &field, Reason::InvalidField, "no container", "a pod has one container at least");
            return false;
        }
        let account = service_account(&spec);
        if !world.service_accounts.contains_key(&NamespacedName::new(&key.namespace, account)) {
            let field = format!("{prefix}.serviceAccountName");
            let message = format!("service account {}/{account} does not exist; the pod waits for it", key.namespace);
            self.refuse(world, key, &field, Reason::Missing, &message, "apply a ServiceAccount of that name");
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

fn template_pod(
    deployment: &k8s::Deployment,
    spec: &k8s_openapi::api::apps::v1::DeploymentSpec,
    name: &NamespacedName,
    hash: &str,
) -> k8s::Pod {
    let mut metadata = spec.template.metadata.clone().unwrap_or_default();
    metadata.name = Some(name.name.clone());
    metadata.namespace = Some(name.namespace.clone());
    metadata.labels.get_or_insert_default().insert(TEMPLATE_HASH.into(), hash.into());
    metadata.owner_references = Some(vec![k8s::OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: format!("{}-{hash}", deployment.metadata.name.clone().unwrap_or_default()),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    k8s::Pod { metadata, spec: spec.template.spec.clone(), status: None }
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
