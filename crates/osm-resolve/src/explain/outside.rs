//! Answers where one of the two ends has no part in the mesh.

use osm_api::{Kind, MONITORED_BY, NamespacedName, ObjectKey};
use osm_model::{Identity, PodName};

use super::requests::account;
use super::{Answer, Caller, Case};

impl Case<'_> {
    /// Who asks, or why it is nobody that the mesh knows.
    pub(super) fn identity(&self) -> Result<Identity, Box<Answer>> {
        match &self.question.from {
            Caller::Pod(pod) => match self.mesh.proxies.get(pod) {
                Some(class) => Ok(class.identity.clone()),
                None => Err(Box::new(self.without_sidecar(pod))),
            },
            Caller::Identity(identity) if self.namespaces.contains(identity.namespace.as_str()) => Ok(identity.clone()),
            Caller::Identity(identity) => {
                let (namespace, account) = (&identity.namespace, account(identity));
                let why =
                    format!("Namespace {namespace} is not of the mesh, so ServiceAccount {account} is nobody there");
                let by = match self.world.namespaces.contains_key(namespace) {
                    true => vec![ObjectKey::new(Kind::Namespace, "", namespace)],
                    false => Vec::new(),
                };
                let needs = format!("the label {MONITORED_BY}: {} on Namespace {namespace}", self.options.mesh_name);
                Err(Box::new(Answer::denied(by, why, needs)))
            }
        }
    }

    /// For destinations that the mesh does not know.
    pub(super) fn outside(&self) -> Answer {
        let to = &self.question.to;
        if self.identity().is_err() {
            let why = format!("neither {} nor {to} is in the mesh, so it has no say", self.question.from);
            return Answer::allowed(Vec::new(), why);
        }
        if self.mesh.settings.egress {
            let why = format!("{to} is not in the mesh, and destinations outside may be reached, unencrypted");
            return Answer::allowed(self.mesh_config(), why);
        }
        let why = format!("{to} is not in the mesh, and destinations outside may not be reached");
        let needs = format!(
            "pods with a sidecar behind a Service, in a namespace of the mesh; or spec.traffic.enableEgress: true in {}",
            self.mesh_config_name()
        );
        Answer::denied(self.mesh_config(), why, needs)
    }

    fn without_sidecar(&self, pod: &PodName) -> Answer {
        let key = ObjectKey::new(Kind::Pod, &pod.namespace, &pod.name);
        let is_known = self.world.pods.contains_key(&NamespacedName::new(&pod.namespace, &pod.name));
        let why = match is_known {
            true => format!("Pod {pod} has no sidecar of this mesh, so it has no identity to be admitted by"),
            false => format!("there is no Pod {pod}"),
        };
        let needs = "a pod made in a namespace of the mesh with sidecar injection".to_owned();
        Answer::denied(if is_known { vec![key] } else { Vec::new() }, why, needs)
    }
}
