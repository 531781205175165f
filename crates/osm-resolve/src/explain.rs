//! Why somebody may reach a service, or may not: for people who ask.

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{Kind, MESH_CONFIG_NAME, NamespacedName, ObjectKey, Problem, World};
use osm_model::{Access, Identity, Mesh, PodName, Service, ServiceName, ServicePort};
use serde::Serialize;

use crate::{ResolveOptions, resolve};

/// Who would reach what, and with which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who.
    pub from: Caller,
    /// The service that is reached.
    pub to: ServiceName,
    /// The service's port.
    pub port: u16,
    /// The request, as far as it is known; of no account when the port does not speak HTTP.
    pub request: Request,
}

/// Who would reach something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A pod.
    Pod(PodName),
    /// Every pod of a service account.
    Identity(Identity),
}

/// What is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method, in upper case.
    pub method: Option<String>,
    /// The path; a query in it counts for nothing.
    pub path: Option<String>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Allowed or not.
    pub verdict: Verdict,
    /// The objects that say so, as `TrafficTarget shop/web`.
    pub by: Vec<String>,
    /// Why, in sentences.
    pub why: Vec<String>,
    /// What would have to be for a denied request to be allowed.
    pub needs: Vec<String>,
    /// What is wrong with objects that may have been meant to allow it.
    pub problems: Vec<Problem>,
}

/// Whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No.
    Denied,
    /// Some requests are, and it is not known whether this is one of them.
    SomeRequests,
    /// Yes.
    Allowed,
}

/// Says whether the proxies let something through, and by which objects. It takes as long as [`resolve`].
pub fn explain(world: &World, options: &ResolveOptions, question: &Question) -> Explanation {
    let (mesh, problems) = resolve(world, options);
    let case = Case { world, options, mesh: &mesh, question };
    let identity = match &question.from {
        Caller::Identity(identity) => identity,
        Caller::Pod(pod) => match mesh.proxies.get(pod) {
            Some(class) => &class.identity,
            None => return case.without_sidecar(pod),
        },
    };
    let Some(service) = mesh.services.get(&question.to) else { return case.outside() };
    let Some(port) = service.ports.get(&question.port) else { return case.no_such_port(service) };
    if service.identities.is_empty() {
        let why = format!("Service {} selects no pod with a sidecar, so nobody can answer for it", service.name);
        let needs = "a pod with a sidecar and the labels of the service's selector".to_owned();
        return Explanation::denied(case.service_key(), why, needs);
    }
    match mesh.settings.access {
        Access::Permissive => {
            let why = "permissive mode is on, so every pod of the mesh reaches every service of the mesh".to_owned();
            Explanation::allowed(case.mesh_config(), why)
        }
        Access::Granted => case.granted(identity, service, port, &problems),
    }
}

/// A question and what it is answered from.
struct Case<'c> {
    world: &'c World,
    options: &'c ResolveOptions,
    mesh: &'c Mesh,
    question: &'c Question,
}

impl Case<'_> {
    fn without_sidecar(&self, pod: &PodName) -> Explanation {
        let key = ObjectKey::new(Kind::Pod, &pod.namespace, &pod.name);
        let is_known = self.world.pods.contains_key(&NamespacedName::new(&pod.namespace, &pod.name));
        let why = match is_known {
            true => format!("Pod {pod} has no sidecar of this mesh, so it has no identity to be admitted by"),
            false => format!("there is no Pod {pod}"),
        };
        let needs = "a pod made in a namespace of the mesh with sidecar injection".to_owned();
        Explanation::denied(if is_known { vec![key] } else { Vec::new() }, why, needs)
    }

    /// For destinations that are not services of the mesh.
    fn outside(&self) -> Explanation {
        let to = &self.question.to;
        if self.mesh.settings.egress {
            let why =
                format!("{to} is not a service of the mesh, and destinations outside may be reached, unencrypted");
            return Explanation::allowed(self.mesh_config(), why);
        }
        let why = format!("{to} is not a service of the mesh, and destinations outside may not be reached");
        let needs = "a Service with a selector in a namespace of the mesh, or spec.traffic.enableEgress".to_owned();
        Explanation::denied(self.mesh_config(), why, needs)
    }

    fn no_such_port(&self, service: &Service) -> Explanation {
        let ports: Vec<String> = service.ports.keys().map(u16::to_string).collect();
        let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
        let why = format!("Service {} has no port {}; its ports: {ports}", service.name, self.question.port);
        Explanation::denied(self.service_key(), why, format!("port {} in the service", self.question.port))
    }

    /// The answer of policies: that of the identity behind the service that lets most through.
    fn granted(&self, from: &Identity, service: &Service, port: &ServicePort, problems: &[Problem]) -> Explanation {
        let answers = service.identities.iter().map(|to| self.granted_by(from, to, port));
        let answers: Vec<(&Identity, Explanation)> = service.identities.iter().zip(answers).collect();
        let verdict = answers.iter().map(|(_, answer)| answer.verdict).max().unwrap_or(Verdict::Denied);
        let mut explanation = Explanation { verdict, ..Explanation::empty() };
        let mut by = BTreeSet::new();
        for (_, answer) in answers.iter().filter(|(_, answer)| answer.verdict == verdict) {
            by.extend(answer.by.iter().cloned());
            explanation.why.extend(answer.why.iter().cloned());
            explanation.needs.extend(answer.needs.iter().cloned());
        }
        explanation.by = by.into_iter().collect();
        if verdict == Verdict::Denied {
            explanation.by.extend(self.mesh_config().iter().map(ObjectKey::to_string));
            let namespaces: BTreeSet<&str> = service.identities.iter().map(|to| to.namespace.as_str()).collect();
            let is_meant = |problem: &&Problem| {
                explanation.by.contains(&problem.subject)
                    || namespaces.iter().any(|namespace| is_policy_of(problem, namespace))
            };
            explanation.problems = problems.iter().filter(is_meant).cloned().collect();
        } else {
            let others =
                answers.iter().filter(|(_, answer)| answer.verdict < verdict).map(|(to, _)| requests::account(to));
            let others: Vec<String> = others.collect();
            if !others.is_empty() {
                let others = others.join(", ");
                explanation.why.push(format!("pods of Service {} that run as {others} do not admit it", service.name));
            }
        }
        explanation
    }

    fn mesh_config(&self) -> Vec<ObjectKey> {
        let name = NamespacedName::new(&self.options.osm_namespace, MESH_CONFIG_NAME);
        let key = ObjectKey::new(Kind::MeshConfig, &name.namespace, &name.name);
        if self.world.mesh_configs.contains_key(&name) { vec![key] } else { Vec::new() }
    }

    fn service_key(&self) -> Vec<ObjectKey> {
        vec![ObjectKey::new(Kind::Service, &self.question.to.namespace, &self.question.to.name)]
    }
}

/// Whether a problem is about a policy of the namespace.
fn is_policy_of(problem: &Problem, namespace: &str) -> bool {
    let policies = [Kind::TrafficTarget, Kind::HttpRouteGroup, Kind::TcpRoute];
    policies.iter().any(|kind| problem.subject.starts_with(&format!("{kind} {namespace}/")))
}

impl Explanation {
    fn empty() -> Explanation {
        let nothing = Vec::new();
        Explanation { verdict: Verdict::Denied, by: nothing, why: Vec::new(), needs: Vec::new(), problems: Vec::new() }
    }

    fn allowed(by: Vec<ObjectKey>, why: String) -> Explanation {
        let by = by.iter().map(ObjectKey::to_string).collect();
        Explanation { verdict: Verdict::Allowed, by, why: vec![why], ..Explanation::empty() }
    }

    fn denied(by: Vec<ObjectKey>, why: String, needs: String) -> Explanation {
        let by = by.iter().map(ObjectKey::to_string).collect();
        Explanation { by, why: vec![why], needs: vec![needs], ..Explanation::empty() }
    }
}
