//! Answers for the ports of services, as the mode of the mesh has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use osm_api::{Kind, NamespacedName, ObjectKey, Problem};
use osm_model::{Access, Identity, PodName, Service, ServiceName, ServicePort};

use super::requests::account;
use super::{Answer, Case, Place, Verdict};
use crate::settings::Policies;

impl Case<'_> {
    pub(super) fn to_service(&self, name: &ServiceName) -> Vec<Answer> {
        let Some(service) = self.mesh.services.get(name) else { return vec![self.outside()] };
        let from = match self.identity() {
            Ok(identity) => identity,
            Err(answer) => return vec![*answer],
        };
        if service.identities.is_empty() {
            let why = format!("Service {name} selects no pod with a sidecar, so nobody can answer for it");
            let needs = "a pod with a sidecar and the labels of the service's selector".to_owned();
            return vec![Answer {
                problems: self.problems_of(&[service_key(name)]),
                ..self.denied_by(name, why, needs)
            }];
        }
        let is_asked = |number: &u16| self.question.port.is_none_or(|asked| asked == *number);
        let ports = service.ports.iter().filter(|(number, _)| is_asked(number));
        let answers: Vec<Answer> =
            ports.map(|(number, port)| self.to_port(&from, service, *number, port, &service.identities)).collect();
        if answers.is_empty() { vec![self.no_such_port(service)] } else { answers }
    }

    /// Only what services send to a pod reaches it.
    pub(super) fn to_pod(&self, name: &PodName) -> Vec<Answer> {
        let Some(class) = self.mesh.proxies.get(name) else { return vec![self.outside()] };
        let from = match self.identity() {
            Ok(identity) => identity,
            Err(answer) => return vec![*answer],
        };
        let ours = BTreeSet::from([class.identity.clone()]);
        let mut answers = Vec::new();
        for service in self.selecting(name) {
            for (number, port) in &service.ports {
                if self.question.port.is_none_or(|asked| port.targets.contains(&asked)) {
                    answers.push(self.to_port(&from, service, *number, port, &ours));
                }
            }
        }
        if answers.is_empty() {
            let what = self.question.port.map(|port| format!("port {port} of ")).unwrap_or_default();
            let why = format!("no port of a Service leads to {what}Pod {name}, and pods are reached through services");
            let needs = format!("a Service that selects the labels of Pod {name} and has such a targetPort");
            answers.push(Answer::denied(vec![ObjectKey::new(Kind::Pod, &name.namespace, &name.name)], why, needs));
        }
        answers
    }

    /// The services whose selector fits a pod's labels.
    fn selecting(&self, pod: &PodName) -> impl Iterator<Item = &Arc<Service>> {
        let object = self.world.pods.get(&NamespacedName::new(&pod.namespace, &pod.name));
        let labels = object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default();
        let namespace = pod.namespace.clone();
        self.mesh.services.values().filter(move |service| {
            let name = NamespacedName::new(&service.name.namespace, &service.name.name);
            let spec = self.world.services.get(&name).and_then(|service| service.spec.as_ref());
            let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
            name.namespace == namespace
                && selector.is_some_and(|wanted| wanted.iter().all(|(label, value)| labels.get(label) == Some(value)))
        })
    }

    /// What holds for one port, when it is one of these that answers.
    fn to_port(
        &self,
        from: &Identity,
        service: &Service,
        number: u16,
        port: &ServicePort,
        answering: &BTreeSet<Identity>,
    ) -> Answer {
        let mut answer = match (self.mesh.settings.access, self.policies) {
            (Access::Permissive, _) => self.permissive(),
            (Access::Granted, Policies::AdmitNobody) => self.nobody(),
            (Access::Granted, Policies::Count) => self.granted(from, service, port, answering),
        };
        // Manifests that nobody runs have no endpoints, and that says nothing.
        if answer.verdict != Verdict::Denied && port.endpoints.is_empty() && !self.world.endpoint_slices.is_empty() {
            answer.why.push(format!("but no pod is ready behind port {number} of Service {}", service.name));
        }
        answer.at = Some(Place { service: service.name.clone(), port: number, protocol: port.protocol });
        answer
    }

    fn permissive(&self) -> Answer {
        let by = self.mesh_config();
        let says = if by.is_empty() { "without a MeshConfig permissive mode is on" } else { "permissive mode is on" };
        Answer::allowed(by, format!("{says}, so every pod of the mesh reaches every service of the mesh"))
    }

    /// The mesh is asked for a decision that it cannot have.
    fn nobody(&self) -> Answer {
        let by = self.mesh_config();
        let field = "spec.traffic.inboundExternalAuthorization.enable";
        let why = format!("{field} asks for a decision that this version cannot get, so nobody is admitted");
        let needs = format!("{field}: false in {}", self.mesh_config_name());
        Answer { problems: self.problems_of(&by), ..Answer::denied(by, why, needs) }
    }

    /// The answer of policies: that of the identity behind the port that lets most through.
    fn granted(
        &self,
        from: &Identity,
        service: &Service,
        port: &ServicePort,
        answering: &BTreeSet<Identity>,
    ) -> Answer {
        let answers: Vec<(&Identity, Answer)> =
            answering.iter().map(|to| (to, self.granted_by(from, to, port))).collect();
        let best = answers.iter().map(|(_, answer)| answer.verdict).max().unwrap_or(Verdict::Denied);
        let mut all = Answer { verdict: best, ..Answer::empty() };
        let mut by = BTreeSet::new();
        for (_, answer) in answers.iter().filter(|(_, answer)| answer.verdict == best) {
            by.extend(answer.by.iter().cloned());
            all.why.extend(answer.why.iter().cloned());
            all.needs.extend(answer.needs.iter().cloned());
        }
        for (_, answer) in &answers {
            all.granted.extend(answer.granted.iter().cloned());
        }
        all.by = by.into_iter().collect();
        if best == Verdict::Denied {
            all.by.extend(self.mesh_config().iter().map(ObjectKey::to_string));
            let field = "spec.traffic.enablePermissiveTrafficPolicyMode";
            all.needs.push(format!(
                "{field}: true in {}, which opens every service of the mesh to every pod of it",
                self.mesh_config_name()
            ));
        } else {
            let others = answers.iter().filter(|(_, answer)| answer.verdict < best).map(|(to, _)| account(to));
            let others: Vec<String> = others.collect();
            if !others.is_empty() {
                all.verdict = Verdict::Partly;
                let others = others.join(", ");
                all.why.push(format!("pods of Service {} that run as {others} do not admit it", service.name));
            }
        }
        if all.verdict != Verdict::Allowed {
            all.problems = self.problems_of_policies(answering, &all.by);
        }
        all
    }

    fn no_such_port(&self, service: &Service) -> Answer {
        let ports: Vec<String> = service.ports.keys().map(u16::to_string).collect();
        let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
        let asked = self.question.port.map(|port| format!(" {port}")).unwrap_or_default();
        let why = format!("Service {} has no port{asked}; its ports: {ports}", service.name);
        let needs = format!("such a port in Service {}", service.name);
        let problems = self.problems_of(&[service_key(&service.name)]);
        Answer { problems, ..self.denied_by(&service.name, why, needs) }
    }

    fn denied_by(&self, service: &ServiceName, why: String, needs: String) -> Answer {
        Answer::denied(vec![service_key(service)], why, needs)
    }

    fn problems_of(&self, objects: &[ObjectKey]) -> Vec<Problem> {
        let subjects: Vec<String> = objects.iter().map(ObjectKey::to_string).collect();
        self.problems.iter().filter(|problem| subjects.contains(&problem.subject)).cloned().collect()
    }

    /// The problems of what decided, of every policy that could have, and of texts that may have held one.
    fn problems_of_policies(&self, answering: &BTreeSet<Identity>, by: &[String]) -> Vec<Problem> {
        let namespaces: BTreeSet<&str> = answering.iter().map(|to| to.namespace.as_str()).collect();
        let is_meant = |problem: &&Problem| {
            problem.subject.is_empty()
                || by.contains(&problem.subject)
                || namespaces.iter().any(|namespace| is_policy_of(problem, namespace))
        };
        self.problems.iter().filter(is_meant).cloned().collect()
    }
}

fn service_key(name: &ServiceName) -> ObjectKey {
    ObjectKey::new(Kind::Service, &name.namespace, &name.name)
}

/// Whether a problem is about a policy of the namespace.
fn is_policy_of(problem: &Problem, namespace: &str) -> bool {
    let policies = [Kind::TrafficTarget, Kind::HttpRouteGroup, Kind::TcpRoute];
    policies.iter().any(|kind| problem.subject.starts_with(&format!("{kind} {namespace}/")))
}
