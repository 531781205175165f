//! Whether grants let a request or a connection through.

use osm_api::{Kind, NamespacedName, ObjectKey};
use osm_model::{Grant, GrantsTo, HttpMatch, Identity, PolicyName, ServicePort, TcpPorts};

use super::{Answer, Case, Request, Verdict};
use crate::policies::{describe, fits};

impl Case<'_> {
    /// What policies say of one identity behind the service's port.
    pub(super) fn granted_by(&self, from: &Identity, to: &Identity, port: &ServicePort) -> Answer {
        let grants = self.mesh.grants.to(to);
        let ours = || grants.iter().filter(|(_, grant)| grant.sources.contains(from));
        let verdicts = ours().map(|(policy, grant)| (policy, grant, self.verdict(grant, port)));
        let verdicts: Vec<(&PolicyName, &Grant, Verdict)> = verdicts.collect();
        let best = verdicts.iter().map(|(_, _, verdict)| *verdict).max().unwrap_or(Verdict::Denied);
        let mut answer = Answer { verdict: best, ..Answer::empty() };
        for (policy, grant, verdict) in &verdicts {
            if port.protocol.is_http() {
                answer.granted.extend(grant.http.iter().cloned());
            }
            if *verdict == best {
                answer.by.extend(self.objects(policy, port));
                answer.why.push(sentence(policy, grant, from, to, port));
            }
        }
        if best == Verdict::Denied {
            if let Some((policy, _, _)) = verdicts.first() {
                let rule = self.rule(port);
                answer.needs.push(format!("{rule}, among spec.rules of TrafficTarget {policy}"));
            } else {
                answer.why.push(nothing(from, to, &grants));
                answer.needs.push(self.need(from, to, port));
            }
        }
        answer
    }

    fn verdict(&self, grant: &Grant, port: &ServicePort) -> Verdict {
        if port.protocol.is_http() {
            let verdicts = grant.http.iter().map(|requests| self.question.request.verdict(requests));
            return verdicts.max().unwrap_or(Verdict::Denied);
        }
        match port.targets.iter().any(|target| grant.tcp.contains(*target)) {
            true => Verdict::Allowed,
            false => Verdict::Denied,
        }
    }

    /// The policy, and the routes that it names for what the port speaks.
    fn objects(&self, policy: &PolicyName, port: &ServicePort) -> Vec<String> {
        let key = |kind, name: &str| ObjectKey::new(kind, &policy.namespace, name).to_string();
        let mut objects = vec![key(Kind::TrafficTarget, &policy.name)];
        let kind = if port.protocol.is_http() { Kind::HttpRouteGroup } else { Kind::TcpRoute };
        let name = NamespacedName::new(&policy.namespace, &policy.name);
        let rules = self.world.traffic_targets.get(&name).into_iter().flat_map(|target| &target.spec.rules);
        objects.extend(rules.filter(|rule| rule.kind == kind.name()).map(|rule| key(kind, &rule.name)));
        objects
    }

    fn need(&self, from: &Identity, to: &Identity, port: &ServicePort) -> String {
        format!(
            "a TrafficTarget in Namespace {} with destination ServiceAccount {}, source ServiceAccount {}, and {}",
            to.namespace,
            account(to),
            account(from),
            self.rule(port)
        )
    }

    /// What a policy would have to name.
    fn rule(&self, port: &ServicePort) -> String {
        if port.protocol.is_http() {
            let request = &self.question.request;
            let method = request.method.as_deref().unwrap_or("any method");
            let path = request.path.as_deref().unwrap_or("on any path");
            return format!("an HTTPRouteGroup with a match for {method} {path}");
        }
        let targets: Vec<String> = port.targets.iter().map(u16::to_string).collect();
        format!("a TCPRoute with port {}", targets.join(" or "))
    }
}

/// Patterns that say nothing of a path, which is never empty.
const FITS_EVERY_PATH: [&str; 3] = [".*", "/.*", ".+"];

impl Request {
    /// Whether the request is one of a set. Where it is not known enough, it may be.
    fn verdict(&self, requests: &HttpMatch) -> Verdict {
        let known = |is_fit: Option<bool>| match is_fit {
            Some(true) => Verdict::Allowed,
            Some(false) => Verdict::Denied,
            None => Verdict::Partly,
        };
        let mut verdict = Verdict::Allowed;
        if !requests.methods.is_empty() {
            verdict = verdict.min(known(self.method.as_ref().map(|method| requests.methods.contains(method))));
        }
        if let Some(pattern) = requests.path.as_ref().filter(|pattern| !FITS_EVERY_PATH.contains(&&*pattern.0)) {
            let path = self.path.as_deref().map(|path| path.split(['?', '#']).next().unwrap_or_default());
            verdict = verdict.min(known(path.map(|path| fits(pattern, path))));
        }
        for (name, pattern) in &requests.headers {
            verdict = verdict.min(known(self.headers.get(name).map(|value| fits(pattern, value))));
        }
        verdict
    }
}

fn sentence(policy: &PolicyName, grant: &Grant, from: &Identity, to: &Identity, port: &ServicePort) -> String {
    let what = if port.protocol.is_http() {
        let requests: Vec<String> = grant.http.iter().map(describe).collect();
        if requests.is_empty() { "no HTTP request".to_owned() } else { requests.join("; ") }
    } else {
        match &grant.tcp {
            TcpPorts::Any => "every TCP port".to_owned(),
            TcpPorts::Only(ports) if ports.is_empty() => "no TCP port".to_owned(),
            TcpPorts::Only(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("TCP port {}", ports.join(", "))
            }
        }
    };
    format!("TrafficTarget {policy} grants {} to reach {}: {what}", account(from), account(to))
}

fn nothing(from: &Identity, to: &Identity, grants: &GrantsTo) -> String {
    let (from, to) = (account(from), account(to));
    match grants.len() {
        0 => format!("no policy grants anybody to reach {to}"),
        _ => {
            let policies: Vec<String> = grants.keys().map(PolicyName::to_string).collect();
            format!("no policy grants {from} to reach {to}; TrafficTargets for others: {}", policies.join(", "))
        }
    }
}

/// As people write service accounts: `shop/web`.
pub(super) fn account(identity: &Identity) -> String {
    format!("{}/{}", identity.namespace, identity.service_account)
}
