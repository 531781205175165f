//! What policies grant: TrafficTargets, and the routes that they name.
//!
//! Sources, rules and matches are unions, so one that cannot be understood is left out and the others go on. What is
//! said of one set of requests holds together, so the whole set is left out when a part of it cannot be understood.

mod accounts;
mod http;
mod pattern;
mod tcp;

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{Kind, NamespacedName, ObjectKey, Reason, Subject, TrafficTarget, TrafficTargetRule, World};
use osm_model::{Grant, Grants, HttpMatch, Identity, PolicyName, TcpPorts};

use crate::pods::Pods;
use crate::report::{Finding, Report};
use accounts::Accounts;
use tcp::TcpRoute;

pub use http::describe;
pub(crate) use pattern::fits;

/// The kind of subject that policies are about.
const SERVICE_ACCOUNT: &str = "ServiceAccount";

/// The matches of a route group by name; those that cannot be understood are there without a meaning.
type RouteGroup = BTreeMap<String, Option<HttpMatch>>;

/// What policies can name.
struct Named<'w> {
    accounts: Accounts<'w>,
    groups: BTreeMap<&'w NamespacedName, RouteGroup>,
    routes: BTreeMap<&'w NamespacedName, TcpRoute<'w>>,
}

/// Everything that the policies in the mesh's namespaces grant.
pub(crate) fn read(world: &World, namespaces: &BTreeSet<&str>, pods: &Pods<'_>, report: &mut Report<'_>) -> Grants {
    let is_ours = |name: &NamespacedName| namespaces.contains(name.namespace.as_str());
    let groups = world.http_route_groups.iter().filter(|(name, _)| is_ours(name));
    let groups =
        groups.map(|(name, group)| (name, http::read(&key(Kind::HttpRouteGroup, name), group, report))).collect();
    let routes = world.tcp_routes.iter().filter(|(name, _)| is_ours(name));
    let routes = routes.map(|(name, route)| (name, tcp::read(&key(Kind::TcpRoute, name), route, report))).collect();
    let named = Named { accounts: Accounts::read(world, namespaces, pods), groups, routes };
    let mut grants = Vec::new();
    for (name, target) in world.traffic_targets.iter().filter(|(name, _)| is_ours(name)) {
        if let Some((destination, grant)) = read_target(name, target, &named, report) {
            let policy = PolicyName { namespace: name.namespace.clone(), name: name.name.clone() };
            grants.push((destination, policy, grant));
        }
    }
    Grants::new(grants)
}

fn read_target(
    name: &NamespacedName,
    target: &TrafficTarget,
    named: &Named<'_>,
    report: &mut Report<'_>,
) -> Option<(Identity, Grant)> {
    let key = key(Kind::TrafficTarget, name);
    let sources = sources(&key, &target.spec.sources, named, report);
    let mut grant = Grant { sources, http: BTreeSet::new(), tcp: TcpPorts::none() };
    if target.spec.rules.is_empty() {
        let finding = Finding::new("spec.rules", Reason::Missing, "no rule, so nothing is granted");
        report.add(&key, finding.hint("name an HTTPRouteGroup or a TCPRoute"));
    }
    for (index, rule) in target.spec.rules.iter().enumerate() {
        if let Err(findings) = add_rule(&mut grant, index, rule, &name.namespace, named) {
            findings.into_iter().for_each(|finding| report.add(&key, finding));
        }
    }
    let destination = &target.spec.destination;
    if !destination.namespace.is_empty() && destination.namespace != name.namespace {
        // Else whoever may write in one namespace could open another.
        let message = format!("{} is not the namespace of this object; nobody is admitted", destination.namespace);
        let finding = Finding::new("spec.destination.namespace", Reason::Refused, message);
        report.add(&key, finding.hint("write the TrafficTarget in the namespace of its destination"));
        return None;
    }
    match subject(destination, "spec.destination", named) {
        Ok(destination) => Some((destination, grant)),
        Err(finding) => {
            report.add(&key, finding);
            None
        }
    }
}

fn sources(key: &ObjectKey, written: &[Subject], named: &Named<'_>, report: &mut Report<'_>) -> BTreeSet<Identity> {
    if written.is_empty() {
        let finding = Finding::new("spec.sources", Reason::Missing, "no source, so nobody is admitted");
        report.add(key, finding.hint("name the service accounts that may reach the destination"));
    }
    let mut sources = BTreeSet::new();
    for (index, source) in written.iter().enumerate() {
        match subject(source, &format!("spec.sources[{index}]"), named) {
            Ok(identity) => {
                sources.insert(identity);
            }
            Err(finding) => report.add(key, finding),
        }
    }
    sources
}

/// The identity that a subject names.
fn subject(written: &Subject, field: &str, named: &Named<'_>) -> Result<Identity, Finding> {
    let problem = |part: &str, reason: Reason, message: String, hint: &str| {
        Err(Finding::new(format!("{field}.{part}"), reason, message).hint(hint))
    };
    if written.kind != SERVICE_ACCOUNT {
        let message = match written.kind.as_str() {
            "" => "missing".to_owned(),
            kind => format!("{kind} is not a kind of subject"),
        };
        return problem("kind", Reason::Unsupported, message, "use ServiceAccount");
    }
    for (part, value) in [("name", &written.name), ("namespace", &written.namespace)] {
        if value.is_empty() {
            return problem(part, Reason::Missing, "missing".to_owned(), "write it down");
        }
    }
    if !named.accounts.is_of_mesh(&written.namespace) {
        let message = format!("Namespace {} is not of the mesh, so nobody there has an identity", written.namespace);
        return problem("namespace", Reason::Missing, message, "add the namespace to the mesh");
    }
    if !named.accounts.exists(&written.namespace, &written.name) {
        let message = format!("there is no ServiceAccount {}/{}", written.namespace, written.name);
        return problem("name", Reason::Missing, message, "add it, or correct the name");
    }
    Ok(Identity { namespace: written.namespace.clone(), service_account: written.name.clone() })
}

/// Adds what one rule lets through.
fn add_rule(
    grant: &mut Grant,
    index: usize,
    rule: &TrafficTargetRule,
    namespace: &str,
    named: &Named<'_>,
) -> Result<(), Vec<Finding>> {
    let field = format!("spec.rules[{index}]");
    let route = NamespacedName::new(namespace, &rule.name);
    let missing = || {
        let message = match rule.name.as_str() {
            "" => "missing".to_owned(),
            _ => format!("there is no {} {route}", rule.kind),
        };
        let hint = format!("add it to namespace {namespace}, or correct the name; the rule grants nothing");
        vec![Finding::new(format!("{field}.name"), Reason::Missing, message).hint(hint)]
    };
    match rule.kind.as_str() {
        "HTTPRouteGroup" => {
            let group = named.groups.get(&route).ok_or_else(missing)?;
            http::add(&mut grant.http, group, rule, &field)
        }
        "TCPRoute" => {
            let found = named.routes.get(&route).ok_or_else(missing)?;
            tcp::add(&mut grant.tcp, found, rule, &field)
        }
        kind => {
            let message = if kind.is_empty() { "missing".to_owned() } else { format!("{kind} is not supported") };
            let finding = Finding::new(format!("{field}.kind"), Reason::Unsupported, message);
            Err(vec![finding.hint("use HTTPRouteGroup or TCPRoute; the rule grants nothing")])
        }
    }
}

/// That a rule names a match that is not there.
fn no_such_match(rule: &TrafficTargetRule, field: &str, index: usize) -> Finding {
    let message = format!("{} {} has no match of the name {:?}", rule.kind, rule.name, rule.matches[index]);
    Finding::new(format!("{field}.matches[{index}]"), Reason::Missing, message)
        .hint("correct the name, or add the match")
}

fn key(kind: Kind, name: &NamespacedName) -> ObjectKey {
    ObjectKey::new(kind, &name.namespace, &name.name)
}
