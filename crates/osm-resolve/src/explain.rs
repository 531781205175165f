//! Why somebody may reach something, or may not: for people who ask.

mod outside;
mod ports;
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{Kind, MESH_CONFIG_NAME, NamespacedName, ObjectKey, Problem, World};
use osm_model::{HttpMatch, Identity, Mesh, PodName, Protocol, ServiceName};
use serde::Serialize;

use crate::report::Report;
use crate::settings::Policies;
use crate::{ResolveOptions, namespaces, resolve, settings};

/// Who would reach what, and with which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who.
    pub from: Caller,
    /// What is reached.
    pub to: Destination,
    /// The service's port, or the pod's own where a pod is reached; every port when there is none.
    pub port: Option<u16>,
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

/// What is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Whichever pod of a service gets it.
    Service(ServiceName),
    /// One pod, through the services that select it.
    Pod(PodName),
}

/// What is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The method, in upper case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path; a query in it counts for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers by lower-case name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// That of all answers together.
    pub verdict: Verdict,
    /// Who asks, as `Pod shop/client`.
    pub from: String,
    /// What is reached, as `Service shop/web`.
    pub to: String,
    /// The request that was asked for.
    pub request: Request,
    /// One for each port that was asked for, or one for the whole when it does not come to ports.
    pub answers: Vec<Answer>,
}

/// What holds for one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The service and its port, where it comes to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Allowed or not.
    pub verdict: Verdict,
    /// The objects that say so, as `TrafficTarget shop/web`.
    pub by: Vec<String>,
    /// Why, in sentences.
    pub why: Vec<String>,
    /// The HTTP requests that policies grant, asked for or not; empty where every request is let through, or none.
    pub granted: BTreeSet<HttpMatch>,
    /// What would have to be for a denied request to be allowed; one of them is enough.
    pub needs: Vec<String>,
    /// What is wrong with objects that may have been meant to allow it.
    pub problems: Vec<Problem>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The service.
    pub service: ServiceName,
    /// The number of its port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No.
    Denied,
    /// Some of what was asked for is: some requests, some ports, or on some of the pods.
    Partly,
    /// Yes.
    Allowed,
}

/// Says whether the proxies let something through, and by which objects. It takes as long as [`resolve`].
///
/// `unread` is what is wrong with objects that are not in the World because of it.
pub fn explain(world: &World, options: &ResolveOptions, question: &Question, unread: &[Problem]) -> Explanation {
    let (mesh, mut problems) = resolve(world, options);
    problems.extend(unread.iter().cloned());
    problems.sort();
    problems.dedup();
    let mut report = Report::new(world);
    let policies = settings::read(world, options, &mut report).policies;
    let namespaces = namespaces::of_mesh(world, options, &mut report);
    let case = Case { world, options, mesh: &mesh, namespaces, policies, problems, question };
    let answers = match &question.to {
        Destination::Service(name) => case.to_service(name),
        Destination::Pod(name) => case.to_pod(name),
    };
    let verdicts: BTreeSet<Verdict> = answers.iter().map(|answer| answer.verdict).collect();
    let verdict = match (verdicts.first(), verdicts.last()) {
        (Some(one), Some(other)) if one == other => *one,
        (None, _) | (_, None) => Verdict::Denied,
        (Some(_), Some(_)) => Verdict::Partly,
    };
    let (from, to) = (question.from.to_string(), question.to.to_string());
    Explanation { verdict, from, to, request: question.request.clone(), answers }
}

/// A question and what it is answered from.
struct Case<'c> {
    world: &'c World,
    options: &'c ResolveOptions,
    mesh: &'c Mesh,
    namespaces: BTreeSet<&'c str>,
    policies: Policies,
    problems: Vec<Problem>,
    question: &'c Question,
}

impl Case<'_> {
    /// The MeshConfig that counts, where there is one.
    fn mesh_config(&self) -> Vec<ObjectKey> {
        let name = NamespacedName::new(&self.options.osm_namespace, MESH_CONFIG_NAME);
        let key = ObjectKey::new(Kind::MeshConfig, &name.namespace, &name.name);
        if self.world.mesh_configs.contains_key(&name) { vec![key] } else { Vec::new() }
    }

    /// What to call the MeshConfig that counts, whether it is there or not.
    fn mesh_config_name(&self) -> String {
        format!("{} {}/{MESH_CONFIG_NAME}", Kind::MeshConfig, self.options.osm_namespace)
    }
}

impl Answer {
    fn empty() -> Answer {
        Answer {
            at: None,
            verdict: Verdict::Denied,
            by: Vec::new(),
            why: Vec::new(),
            granted: BTreeSet::new(),
            needs: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn allowed(by: Vec<ObjectKey>, why: String) -> Answer {
        let by = by.iter().map(ObjectKey::to_string).collect();
        Answer { verdict: Verdict::Allowed, by, why: vec![why], ..Answer::empty() }
    }

    fn denied(by: Vec<ObjectKey>, why: String, needs: String) -> Answer {
        let by = by.iter().map(ObjectKey::to_string).collect();
        Answer { by, why: vec![why], needs: vec![needs], ..Answer::empty() }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Pod(pod) => write!(f, "{} {pod}", Kind::Pod),
            Caller::Identity(identity) => write!(f, "{} {}", Kind::ServiceAccount, requests::account(identity)),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Service(service) => write!(f, "{} {service}", Kind::Service),
            Destination::Pod(pod) => write!(f, "{} {pod}", Kind::Pod),
        }
    }
}
