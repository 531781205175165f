//! Who may send which HTTP requests. The filter is in every inbound connection manager and does nothing by itself; its
//! rules come with the routes.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as envoy;
use envoy_types::pb::envoy::config::rbac::v3::permission::{Rule, Set};
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::r#type::matcher::v3::path_matcher::Rule as PathRule;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::Any;
use osm_model::{Grant, GrantsTo, HttpMatch, Pattern, TrustDomain};
use prost::{Message, Name};

use crate::http::filter;

const NAME: &str = "envoy.filters.http.rbac";

/// The filter, without rules of its own.
pub(crate) fn without_rules() -> HttpFilter {
    filter(NAME, Rbac::default())
}

/// The rules of what is granted: a policy for each object that grants something, under its name. Nothing granted:
/// nobody is admitted. A request that no policy admits is answered with 403.
///
/// Policies and not routes tell requests apart: of routes only the first that fits counts, and another's grant for the
/// same request would be forgotten.
pub(crate) fn rules(grants: &GrantsTo, trust_domain: &TrustDomain) -> HashMap<String, Any> {
    // Each policy in a message of its own: bytes of messages one after the other are one message with all of them, and
    // the order of their map is ours.
    let mut bytes = per_route(HashMap::new()).encode_to_vec();
    for (name, grant) in grants.iter().filter(|(_, grant)| !grant.http.is_empty()) {
        let policy = per_route(HashMap::from([(name.to_string(), policy(grant, trust_domain))]));
        policy.encode(&mut bytes).expect("a vector grows");
    }
    HashMap::from([(NAME.to_owned(), Any { type_url: RbacPerRoute::type_url(), value: bytes })])
}

fn per_route(policies: HashMap<String, envoy::Policy>) -> RbacPerRoute {
    let rules = envoy::Rbac { action: envoy::rbac::Action::Allow.into(), policies, ..Default::default() };
    RbacPerRoute { rbac: Some(Rbac { rules: Some(rules), ..Default::default() }) }
}

fn policy(grant: &Grant, trust_domain: &TrustDomain) -> envoy::Policy {
    let principals = grant.sources.iter().map(|source| {
        let name = StringMatcher {
            match_pattern: Some(MatchPattern::Exact(source.dns_name(trust_domain))),
            ..Default::default()
        };
        let identifier = Identifier::Authenticated(Authenticated { principal_name: Some(name) });
        envoy::Principal { identifier: Some(identifier) }
    });
    envoy::Policy {
        permissions: grant.http.iter().map(permission).collect(),
        principals: principals.collect(),
        ..Default::default()
    }
}

fn permission(requests: &HttpMatch) -> envoy::Permission {
    let mut rules = Vec::new();
    if let Some(path) = &requests.path {
        let matcher = StringMatcher { match_pattern: Some(whole(path)), ..Default::default() };
        rules.push(Rule::UrlPath(PathMatcher { rule: Some(PathRule::Path(matcher)) }));
    }
    if !requests.methods.is_empty() {
        let methods = requests.methods.iter().map(|method| header(":method", MatchPattern::Exact(method.clone())));
        rules.push(one_or(methods.collect(), Rule::OrRules));
    }
    let headers = requests.headers.iter();
    rules.extend(headers.map(|(name, value)| {
        // HTTP/2 has no such header, and Envoy knows it by the name that HTTP/2 has for it.
        let name = if name == "host" { ":authority" } else { name };
        header(name, whole(value))
    }));
    let rule = if rules.is_empty() { Rule::Any(true) } else { one_or(rules, Rule::AndRules) };
    envoy::Permission { rule: Some(rule) }
}

/// The one rule, or all of them together.
fn one_or(mut rules: Vec<Rule>, together: impl FnOnce(Set) -> Rule) -> Rule {
    match rules.len() {
        1 => rules.remove(0),
        _ => together(Set { rules: rules.into_iter().map(|rule| envoy::Permission { rule: Some(rule) }).collect() }),
    }
}

fn header(name: &str, value: MatchPattern) -> Rule {
    let value = StringMatcher { match_pattern: Some(value), ..Default::default() };
    Rule::Header(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    })
}

/// Fits the whole value or nothing, as Envoy does it.
fn whole(pattern: &Pattern) -> MatchPattern {
    MatchPattern::SafeRegex(RegexMatcher { regex: pattern.0.clone(), ..Default::default() })
}
