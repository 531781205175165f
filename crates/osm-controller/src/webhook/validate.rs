//! `/validate`: what the mesh would make of an object, said before it is kept. Pure.
//!
//! What is wrong with the object itself refuses it. What it names and does not exist yet is a warning, since objects
//! may be applied in any order. An object that is broken already may be changed as long as no new fault comes.

use std::collections::BTreeSet;

use osm_api::{
    Change, Kind, MESH_CONFIG_NAME, MONITORED_BY, ManifestSet, NamespacedName, Object, Problem, Reason, World,
};
use osm_resolve::{ResolveOptions, resolve};
use serde_json::Value;

use super::review::{Answer, Operation, Request};

/// Decides about a change of an object.
pub(crate) fn validate(
    request: &Request,
    world: &World,
    known: &BTreeSet<Problem>,
    options: &ResolveOptions,
) -> Answer {
    match request.operation {
        Operation::Connect => Answer::allowed(),
        Operation::Delete => deletion(request, world, options),
        Operation::Create | Operation::Update => {
            let is_going = request.object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
            let is_same = request.operation == Operation::Update
                && request.object.get("spec") == request.old_object.get("spec")
                && !request.old_object.is_null();
            if is_going || is_same { Answer::allowed() } else { change(request, world, known, options) }
        }
    }
}

fn change(request: &Request, world: &World, known: &BTreeSet<Problem>, options: &ResolveOptions) -> Answer {
    let (object, mut problems) = decode(&request.object, request);
    let (_, mut before) = decode(&request.old_object, request);
    if let Some(object) = object {
        let subject = object.key().to_string();
        let mut changed = world.clone();
        changed.apply(Change::Apply(Box::new(object), None));
        let (_, found) = resolve(&changed, options);
        problems.extend(found.into_iter().filter(|problem| problem.subject == subject));
        before.extend(known.iter().filter(|problem| problem.subject == subject).cloned());
    }
    let before: BTreeSet<Problem> = before.into_iter().map(|problem| problem.with_origin(None)).collect();
    let problems = problems.into_iter().map(|problem| problem.with_origin(None));
    let (faults, remarks): (Vec<_>, Vec<_>) =
        problems.partition(|problem| is_fault(problem.reason) && !before.contains(problem));
    if faults.is_empty() {
        Answer { warnings: remarks.iter().map(Problem::to_string).collect(), ..Answer::default() }
    } else {
        Answer::refused_for(422, &faults)
    }
}

/// The object, if it can be understood, and what is wrong with its text.
fn decode(object: &Value, request: &Request) -> (Option<Object>, Vec<Problem>) {
    if !object.is_object() {
        return (None, Vec::new());
    }
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    if metadata.get("name").is_none() {
        // With generateName the name comes later, and it does not matter here.
        let beginning = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
        let name = if request.name.is_empty() { format!("{beginning}new") } else { request.name.clone() };
        metadata["name"] = name.into();
    }
    if !request.namespace.is_empty() {
        metadata["namespace"] = request.namespace.clone().into();
    }
    let update = ManifestSet::default().put("request", &object.to_string());
    let is_refused = update.problems.iter().any(|problem| is_fault(problem.reason));
    let mut objects = update.changes.into_iter().filter_map(|change| match change {
        Change::Apply(object, _) => Some(*object),
        Change::Delete(_) => None,
    });
    (objects.next_back().filter(|_| !is_refused), update.problems)
}

/// Whether an object of which this is true should not be kept.
fn is_fault(reason: Reason) -> bool {
    match reason {
        Reason::Syntax | Reason::InvalidField | Reason::Duplicate | Reason::Conflict | Reason::Refused => true,
        Reason::UnknownKind | Reason::UnknownField | Reason::Unsupported | Reason::Missing => false,
    }
}

/// Without a MeshConfig the mesh is permissive, so one that is not must not just go.
fn deletion(request: &Request, world: &World, options: &ResolveOptions) -> Answer {
    let is_the_one = request.kind.kind == Kind::MeshConfig.name()
        && request.name == MESH_CONFIG_NAME
        && request.namespace == options.osm_namespace;
    let key = NamespacedName::new(&request.namespace, &request.name);
    let is_permissive =
        world.mesh_configs.get(&key).is_none_or(|config| config.spec.traffic.enable_permissive_traffic_policy_mode);
    let is_ending = world
        .namespaces
        .get(&request.namespace)
        .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
    let member = world.namespaces.iter().find(|(_, namespace)| {
        namespace.metadata.labels.as_ref().and_then(|labels| labels.get(MONITORED_BY)) == Some(&options.mesh_name)
    });
    match member {
        Some((member, _)) if is_the_one && !is_permissive && !is_ending => Answer::refused(
            403,
            format!(
                "MeshConfig {}/{}: without it every pod of the mesh could reach every other, and namespace {member} is in \
                 the mesh; take the namespaces out of the mesh first, or set \
                 spec.traffic.enablePermissiveTrafficPolicyMode to true",
                request.namespace, request.name
            ),
        ),
        _ => Answer::allowed(),
    }
}
