//! Events of Kubernetes: warnings where the owners of an object look.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use osm_api::k8s;

/// The longest message that Kubernetes takes is 1,024 bytes.
const MESSAGE_CHARS_MAX: usize = 900;

/// The longest name that an object may have, less the hash.
const NAME_CHARS_MAX: usize = 200;

/// A warning of the controller about an object, under this name. What has no namespace has its Events in the default
/// one.
pub(crate) fn warning(
    about: k8s::ObjectReference,
    name: String,
    reason: String,
    message: String,
    now: jiff::Timestamp,
) -> k8s::Event {
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    k8s::Event {
        metadata: k8s::ObjectMeta { name: Some(name), namespace: Some(namespace), ..k8s::ObjectMeta::default() },
        involved_object: about,
        type_: Some("Warning".to_owned()),
        reason: Some(reason),
        message: Some(message),
        source: Some(k8s::EventSource { component: Some("osm-controller".to_owned()), host: None }),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..k8s::Event::default()
    }
}

/// The same for the same content, so that replicas and restarts do not repeat each other.
pub(crate) fn name_by_content(object: &str, content: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let short: String = object.chars().take(NAME_CHARS_MAX).collect();
    format!("{short}.{:016x}", hasher.finish())
}

/// As much of a message as Kubernetes takes.
pub(crate) fn cut(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}
