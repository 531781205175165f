//! HTTPRouteGroups: sets of HTTP requests that rules name.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{HttpRouteGroup, ObjectKey, Reason, TrafficTargetRule};
use osm_model::{HttpMatch, Pattern};

use super::{RouteGroup, no_such_match, pattern};
use crate::report::{Finding, Report};

/// What `methods` may say beside `*` (SMI, Traffic Specs v1alpha4).
const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The matches of a group.
pub(crate) fn read(key: &ObjectKey, group: &HttpRouteGroup, report: &mut Report<'_>) -> RouteGroup {
    let written = &group.spec.matches;
    if written.is_empty() {
        let finding = Finding::new("spec.matches", Reason::Missing, "no match, so rules that name it grant nothing");
        report.add(key, finding.hint("add a match"));
    }
    let mut read = BTreeMap::new();
    for (index, written) in written.iter().enumerate() {
        let field = format!("spec.matches[{index}]");
        if written.name.is_empty() {
            let finding = Finding::new(format!("{field}.name"), Reason::Missing, "missing; the match is left out");
            report.add(key, finding.hint("give each match a name of its own"));
            continue;
        }
        let meaning = match read_match(&field, written) {
            Ok(meaning) => Some(meaning),
            Err(finding) => {
                report.add(key, finding);
                None
            }
        };
        if read.contains_key(&written.name) {
            let message = format!("{:?} is the name of another match; both are left out", written.name);
            let finding = Finding::new(format!("{field}.name"), Reason::Conflict, message);
            report.add(key, finding.hint("give each match a name of its own"));
            read.insert(written.name.clone(), None);
        } else {
            read.insert(written.name.clone(), meaning);
        }
    }
    read
}

/// Adds the requests of a group that a rule names: all of them if it names none.
pub(crate) fn add(
    granted: &mut BTreeSet<HttpMatch>,
    group: &RouteGroup,
    rule: &TrafficTargetRule,
    field: &str,
) -> Result<(), Vec<Finding>> {
    if rule.matches.is_empty() {
        granted.extend(group.values().flatten().cloned());
        return Ok(());
    }
    let mut findings = Vec::new();
    for (index, name) in rule.matches.iter().enumerate() {
        match group.get(name) {
            Some(meaning) => granted.extend(meaning.clone()),
            None => findings.push(no_such_match(rule, field, index)),
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// A set of requests for people: `GET /books/.* with user-agent: curl.*`.
pub fn describe(requests: &HttpMatch) -> String {
    let methods = requests.methods.iter().map(String::as_str).collect::<Vec<_>>().join("|");
    let methods = if methods.is_empty() { "any method" } else { &methods };
    let path = requests.path.as_ref().map_or("on any path", |path| path.0.as_str());
    let headers: Vec<String> = requests.headers.iter().map(|(name, value)| format!("{name}: {}", value.0)).collect();
    let with = if headers.is_empty() { String::new() } else { format!(" with {}", headers.join(", ")) };
    format!("{methods} {path}{with}")
}

fn read_match(field: &str, written: &osm_api::HttpMatch) -> Result<HttpMatch, Finding> {
    let path = match written.path_regex.as_str() {
        "" => None,
        path => Some(read_pattern(format!("{field}.pathRegex"), path)?),
    };
    let mut methods = BTreeSet::new();
    for (index, method) in written.methods.iter().enumerate() {
        if method != "*" && !METHODS.contains(&method.as_str()) {
            let message = format!("{method:?} is not a method; the match is left out");
            return Err(Finding::new(format!("{field}.methods[{index}]"), Reason::InvalidField, message)
                .hint(format!("use some of: *, {}", METHODS.join(", "))));
        }
        methods.insert(method.clone());
    }
    if methods.contains("*") {
        methods.clear();
    }
    let mut headers = BTreeSet::new();
    for (index, header) in written.headers.iter().enumerate() {
        for (name, value) in header {
            let field = format!("{field}.headers[{index}].{name}");
            if !is_header_name(name) {
                let message = format!("{name:?} is not the name of a header; the match is left out");
                return Err(Finding::new(field, Reason::InvalidField, message)
                    .hint("use letters, digits and '-'; host is the host of the request"));
            }
            headers.insert((name.to_ascii_lowercase(), read_pattern(field, value)?));
        }
    }
    Ok(HttpMatch { path, methods, headers })
}

fn read_pattern(field: String, written: &str) -> Result<Pattern, Finding> {
    pattern::read(written).map_err(|why| {
        Finding::new(field, Reason::InvalidField, format!("{written:?} cannot be used: {why}; the match is left out"))
            .hint("write a regular expression of RE2 for the whole value")
    })
}

/// A token (RFC 9110, section 5.6.2), or one of the names that HTTP/2 has for parts of the request line.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    [":authority", ":method", ":path", ":scheme"].contains(&name) || !name.is_empty() && name.bytes().all(is_token)
}
