//! What is tried once more, on another endpoint: only what cannot be carried out twice, or may be.
//!
//! An application that is told to end closes its port at once, while its peers learn a moment later that it is gone.
//! The proxy beside it knows whether a request was given to it, and says so in a header; the client's proxy takes that
//! word, and what it saw of the connection itself.

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLogFilter, ResponseFlagFilter};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryHostPredicate;
use envoy_types::pb::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::util::pack_any;

use crate::parts::number;

/// The header in which the server's proxy says how far a request came that it could not have answered. It never reaches
/// an application, nor comes from one.
pub(crate) const HEADER: &str = "x-osm-retry";

/// The application was not reached: nobody has heard the request.
const UNHEARD: &str = "unheard";
/// The application went away without an answer: it may have heard the request.
const UNANSWERED: &str = "unanswered";

/// Methods of which two requests do what one does (RFC 9110, section 9.2.2).
const IDEMPOTENT: &str = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE";

/// A connection that could not be made, a stream that the other side says it did not look at, a request that was not
/// sent.
const UNSENT: &str = "connect-failure,refused-stream,reset-before-request,retriable-headers";
/// The same, and no answer at all.
const NO_ANSWER: &str = "connect-failure,refused-stream,reset,retriable-headers";

/// How often: a roll-out replaces few pods at once, and a service that is gone must be said to be gone soon.
const RETRIES_MAX: u32 = 3;
/// How often another endpoint than those that were tried is looked for.
const CHOICES_MAX: i64 = 5;

/// The requests that may be carried out twice.
pub(crate) fn idempotent() -> Vec<envoy::HeaderMatcher> {
    let methods = RegexMatcher { regex: IDEMPOTENT.to_owned(), ..Default::default() };
    vec![header(":method", MatchPattern::SafeRegex(methods))]
}

/// For every request.
pub(crate) fn of_unsent() -> envoy::RetryPolicy {
    policy(UNSENT, header(HEADER, MatchPattern::Exact(UNHEARD.to_owned())))
}

/// For those that may be carried out twice.
pub(crate) fn of_unanswered() -> envoy::RetryPolicy {
    let present = envoy::HeaderMatcher {
        name: HEADER.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    };
    policy(NO_ANSWER, present)
}

/// Has a server's proxy say how far a request came.
pub(crate) fn said_by_server() -> LocalReplyConfig {
    let mapper = |flag: &str, word: &str| {
        let flags = ResponseFlagFilter { flags: vec![flag.to_owned()] };
        let word = HeaderValueOption {
            header: Some(HeaderValue { key: HEADER.to_owned(), value: word.to_owned(), ..Default::default() }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..Default::default()
        };
        ResponseMapper {
            filter: Some(AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)) }),
            headers_to_add: vec![word],
            ..Default::default()
        }
    };
    // The first that fits counts. UF: no connection; UC: the connection ended.
    LocalReplyConfig { mappers: vec![mapper("UF", UNHEARD), mapper("UC", UNANSWERED)], ..Default::default() }
}

fn policy(retry_on: &str, header: envoy::HeaderMatcher) -> envoy::RetryPolicy {
    let other_hosts = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(PreviousHostsPredicate {}))),
    };
    envoy::RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: number(RETRIES_MAX),
        retry_host_predicate: vec![other_hosts],
        host_selection_retry_max_attempts: CHOICES_MAX,
        retriable_headers: vec![header],
        ..Default::default()
    }
}

fn header(name: &str, pattern: MatchPattern) -> envoy::HeaderMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    envoy::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    }
}
