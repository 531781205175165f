//! The pods that Deployments and Jobs stand for.

use std::sync::Arc;

use jiff::SignedDuration;
use osm_api::{Kind, NamespacedName, ObjectKey, Reason, World, k8s};

use super::{Desired, DesiredPod, Owner, revision, template_probed_by};
use crate::plan::rollout::{Rounding, resolved, seconds};
use crate::support;

/// The label that tells the pods of one template of a Deployment from those of another, as in Kubernetes.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The labels of a Job's pods, as in Kubernetes: the present one, and the one before it that many still use.
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// As in Kubernetes, when the Job does not say.
const BACKOFF_LIMIT_DEFAULT: i32 = 6;

/// How a Deployment gets from one template to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredDeployment {
    /// Of its present template.
    pub revision: String,
    /// What goes first.
    pub replacement: Replacement,
    /// For so long must a pod have been ready before it counts as available.
    pub min_ready: SignedDuration,
}

/// What goes first when pods are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The old pods end as the new ones become available.
    Rolling {
        /// So many pods more than the replicas may be there.
        max_surge: usize,
        /// So many of the replicas need not be available.
        max_unavailable: usize,
    },
    /// The new pods start when the old ones are gone.
    Recreate,
}

/// A Job that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredJob {
    /// Every one of its pods, but for the name.
    pub pod: Arc<k8s::Pod>,
    /// Changes whenever it must begin anew.
    pub revision: String,
    /// So many pods must succeed; none when the pods share a queue of work and the first success is the end of it.
    pub completions: Option<usize>,
    /// So many pods run at a time.
    pub parallelism: usize,
    /// So many pods may fail.
    pub backoff_limit: usize,
    /// Its containers start again within their pod.
    pub restarts_in_place: bool,
    /// It fails when it takes longer.
    pub deadline: Option<SignedDuration>,
    /// It starts no pods.
    pub is_suspended: bool,
}

impl DesiredJob {
    /// The next pod, under the first name that is not taken.
    pub(crate) fn pod_number(
        &self,
        job: &NamespacedName,
        is_taken: impl Fn(&NamespacedName) -> bool,
    ) -> (NamespacedName, DesiredPod) {
        let names = (0_u32..).map(|number| NamespacedName::new(&job.namespace, &format!("{}-{number}", job.name)));
        let name = names.into_iter().find(|name| !is_taken(name)).expect("numbers do not end before pods do");
        let mut pod = (*self.pod).clone();
        pod.metadata.name = Some(name.name.clone());
        let owner = Some(Owner::Job(job.clone()));
        (name, DesiredPod { pod: Arc::new(pod), revision: self.revision.clone(), owner })
    }
}

impl Desired {
    pub(super) fn add_deployment(&mut self, world: &World, name: &NamespacedName, deployment: &k8s::Deployment) {
        let key = ObjectKey::new(Kind::Deployment, &name.namespace, &name.name);
        let subject = key.to_string();
        let spec = &deployment.spec;
        let pod_spec = spec.template.spec.clone().unwrap_or_default();
        let probed_by = template_probed_by(world, &name.namespace, &spec.template);
        let mut unsupported = support::deployment_problems(&subject, deployment);
        unsupported.extend(support::pod_problems(&subject, &pod_spec, "spec.template.spec", probed_by));
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
        let revision = revision(&spec.template);
        let replicas = usize::try_from(spec.replicas.unwrap_or(1).max(0)).expect("not negative");
        let replacement = self.replacement(world, &key, spec, replicas);
        let min_ready = seconds(spec.min_ready_seconds);
        self.deployments.insert(name.clone(), DesiredDeployment { revision: revision.clone(), replacement, min_ready });
        for index in 0..replicas {
            let pod_name = NamespacedName::new(&name.namespace, &format!("{}-{revision}-{index}", name.name));
            let pod = replica(deployment, &pod_name, &revision);
            let owner = Some(Owner::Deployment(name.clone()));
            let wanted = DesiredPod { pod: Arc::new(pod), revision: revision.clone(), owner };
            if !self.add(world, &key, pod_name, wanted, "spec.template.spec") {
                break;
            }
        }
    }

    fn replacement(
        &mut self,
        world: &World,
        key: &ObjectKey,
        spec: &k8s_openapi::api::apps::v1::DeploymentSpec,
        replicas: usize,
    ) -> Replacement {
        let strategy = spec.strategy.clone().unwrap_or_default();
        if strategy.type_.as_deref() == Some("Recreate") {
            return Replacement::Recreate;
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let quarter = k8s::IntOrString::String("25%".into());
        let mut read = |value: Option<k8s::IntOrString>, field: &str, rounding| {
            let value = value.unwrap_or_else(|| quarter.clone());
            resolved(&value, replicas, rounding).unwrap_or_else(|| {
                let field = format!("spec.strategy.rollingUpdate.{field}");
                let hint = "write a number or a percentage, such as 1 or 25%";
                self.refuse(world, key, &field, Reason::InvalidField, "not a number of pods; 25% is used", hint);
                resolved(&quarter, replicas, rounding).unwrap_or_default()
            })
        };
        let max_surge = read(rolling.max_surge, "maxSurge", Rounding::Up);
        let max_unavailable = read(rolling.max_unavailable, "maxUnavailable", Rounding::Down);
        // With neither nothing could ever move; Kubernetes lets one pod be missing then.
        let max_unavailable = if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable };
        Replacement::Rolling { max_surge, max_unavailable }
    }

    pub(super) fn add_job(&mut self, world: &World, name: &NamespacedName, job: &k8s::Job) {
        let key = ObjectKey::new(Kind::Job, &name.namespace, &name.name);
        let subject = key.to_string();
        let spec = job.spec.clone().unwrap_or_default();
        let pod_spec = spec.template.spec.clone().unwrap_or_default();
        let probed_by = template_probed_by(world, &name.namespace, &spec.template);
        let mut unsupported = support::job_problems(&subject, job);
        unsupported.extend(support::pod_problems(&subject, &pod_spec, "spec.template.spec", probed_by));
        self.say_unsupported(world, &key, unsupported);
        let policy = pod_spec.restart_policy.clone();
        if !matches!(policy.as_deref(), Some("Never" | "OnFailure")) {
            let field = "spec.template.spec.restartPolicy";
            let message = "a Job's pods restart never or on failure; no pod is started";
            return self.refuse(world, &key, field, Reason::InvalidField, message, "write Never or OnFailure");
        }
        for (field, value) in
            [("completions", spec.completions), ("parallelism", spec.parallelism), ("backoffLimit", spec.backoff_limit)]
        {
            if value.is_some_and(|value| value < 0) {
                let field = format!("spec.{field}");
                let message = "below zero; no pod is started";
                return self.refuse(world, &key, &field, Reason::InvalidField, message, "write 0 or more");
            }
        }
        if !self.is_possible(world, &key, &pod_spec, "spec.template.spec") {
            return;
        }
        let count = |value: i32| usize::try_from(value).expect("checked above");
        // Without either it is one pod; with parallelism alone the pods share a queue.
        let completions = spec.completions.or(if spec.parallelism.is_none() { Some(1) } else { None });
        let wanted = DesiredJob {
            pod: Arc::new(job_pod(job, &spec, name)),
            revision: revision(&(&spec.template, spec.completions)),
            completions: completions.map(count),
            parallelism: count(spec.parallelism.unwrap_or(1)),
            backoff_limit: count(spec.backoff_limit.unwrap_or(BACKOFF_LIMIT_DEFAULT)),
            restarts_in_place: policy.as_deref() == Some("OnFailure"),
            deadline: spec.active_deadline_seconds.map(SignedDuration::from_secs),
            is_suspended: spec.suspend == Some(true),
        };
        self.jobs.insert(name.clone(), wanted);
    }
}

fn replica(deployment: &k8s::Deployment, name: &NamespacedName, hash: &str) -> k8s::Pod {
    let template = &deployment.spec.template;
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.name = Some(name.name.clone());
    metadata.namespace = Some(name.namespace.clone());
    metadata.labels.get_or_insert_default().insert(TEMPLATE_HASH.into(), hash.into());
    let replica_set = format!("{}-{hash}", deployment.metadata.name.clone().unwrap_or_default());
    metadata.owner_references = Some(vec![reference("apps/v1", "ReplicaSet", replica_set, &deployment.metadata)]);
    k8s::Pod { metadata, spec: template.spec.clone(), status: None }
}

fn job_pod(job: &k8s::Job, spec: &k8s::JobSpec, name: &NamespacedName) -> k8s::Pod {
    let mut metadata = spec.template.metadata.clone().unwrap_or_default();
    metadata.namespace = Some(name.namespace.clone());
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(JOB_NAME.map(|label| (label.to_owned(), name.name.clone())));
    metadata.owner_references = Some(vec![reference("batch/v1", "Job", name.name.clone(), &job.metadata)]);
    k8s::Pod { metadata, spec: spec.template.spec.clone(), status: None }
}

fn reference(api_version: &str, kind: &str, name: String, owner: &k8s::ObjectMeta) -> k8s::OwnerReference {
    k8s::OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name,
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
