//! One text, its documents, and the object in each.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Kind, Object, ObjectKey, Origin, Problem, Reason, is_dns_label, is_dns_subdomain};

/// A text may hold this many documents; a cluster of 10,000 objects in one file is still read.
const DOCUMENT_LIMIT: usize = 100_000;

/// What one text holds.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) objects: Vec<(Object, Origin)>,
    pub(crate) problems: Vec<Problem>,
    /// Objects that are written down, but not so that they can be understood.
    pub(crate) refused: BTreeMap<ObjectKey, Origin>,
    /// Some document held an object that could not be read, so that what is missing may not be gone.
    pub(crate) is_broken: bool,
}

/// Reads every document of a text; a document that cannot be read is a problem, and the next is read all the same.
pub(crate) fn parse(file: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, (line, document)) in split(text).into_iter().enumerate() {
        let origin = Origin { file: file.to_owned(), document: index + 1, line };
        if index >= DOCUMENT_LIMIT {
            parsed.is_broken = true;
            parsed.problems.push(
                Problem::new("", Reason::Syntax, format!("more than {DOCUMENT_LIMIT} documents; the rest is not read"))
                    .with_hint("split the file")
                    .with_origin(Some(origin)),
            );
            break;
        }
        match serde_saphyr::from_str::<Value>(document) {
            Ok(Value::Null) => {}
            Ok(value) => parsed.read_value(value, &origin),
            Err(error) => {
                // An empty document with a comment alone is an error to the parser, and nothing to us.
                if document.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
                    continue;
                }
                parsed.is_broken = true;
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                parsed.problems.push(
                    Problem::new("", Reason::Syntax, format!("not YAML: {first}"))
                        .with_hint("lines in this message count from the start of the document")
                        .with_origin(Some(origin)),
                );
            }
        }
    }
    parsed
}

/// Reads one object that is no text, as the API server gives it.
pub(crate) fn parse_value(value: Value) -> Parsed {
    let mut parsed = Parsed::default();
    parsed.read_object(value, &Origin { file: String::new(), document: 0, line: 0 });
    for problem in &mut parsed.problems {
        problem.origin = None;
    }
    parsed
}

/// Documents with the line that each starts on. Split before parsing, so that a malformed one cannot hide the next.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            documents.push((start_line, &text[start..offset]));
            start = offset + 3;
            start_line = index + 1;
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents.retain(|(_, d)| !d.trim().is_empty());
    documents
}

impl Parsed {
    fn read_value(&mut self, value: Value, origin: &Origin) {
        let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"));
        match value {
            Value::Object(mut map) if is_list && map.contains_key("items") => match map.remove("items") {
                Some(Value::Array(items)) => items.into_iter().for_each(|item| self.read_value(item, origin)),
                _ => self.refuse(origin, "", "items", "not a list", "write the objects as a list"),
            },
            Value::Object(map) => self.read_object(Value::Object(map), origin),
            _ => self.refuse(
                origin,
                "",
                "",
                "not an object",
                "a document is a mapping with apiVersion, kind and metadata",
            ),
        }
    }

    fn read_object(&mut self, mut value: Value, origin: &Origin) {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind_name, version) = (text("kind"), text("apiVersion"));
        let metadata =
            |field: &str| value.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default();
        let (name, namespace) = (metadata("name").to_owned(), metadata("namespace").to_owned());
        let subject = match (kind_name.as_str(), namespace.as_str()) {
            ("", _) => String::new(),
            (kind, "") => format!("{kind} {name}"),
            (kind, namespace) => format!("{kind} {namespace}/{name}"),
        };
        if kind_name.is_empty() || version.is_empty() {
            let field = if kind_name.is_empty() { "kind" } else { "apiVersion" };
            return self.refuse(origin, &subject, field, "missing", "say which kind and version the object is");
        }
        let Some(kind) = known_kind(&kind_name, &version) else {
            self.problems.push(unknown_kind(&subject, &kind_name, &version).with_origin(Some(origin.clone())));
            return;
        };
        if !is_dns_subdomain(&name) {
            let message = if name.is_empty() { "missing".to_owned() } else { format!("{name:?} is not a name") };
            return self.refuse(
                origin,
                &subject,
                "metadata.name",
                &message,
                "use lower case letters, digits, '-' and '.'",
            );
        }
        if kind.is_namespaced() && !namespace.is_empty() && !is_dns_label(&namespace) {
            return self.refuse(
                origin,
                &subject,
                "metadata.namespace",
                &format!("{namespace:?} is not a name"),
                "use lower case letters, digits and '-', 63 at most",
            );
        }
        match (kind.is_namespaced(), namespace.is_empty()) {
            (true, true) => value["metadata"]["namespace"] = "default".into(),
            (false, false) => {
                value["metadata"].as_object_mut().map(|m| m.remove("namespace"));
            }
            (true, false) | (false, true) => {}
        }
        match self.typed(kind, value, &subject, origin) {
            Ok(object) => self.objects.push((object, origin.clone())),
            Err((field, message)) => {
                self.refuse(origin, &subject, &field, &message, "correct the value; the object is not used");
                let namespace = if namespace.is_empty() { "default" } else { &namespace };
                let key = ObjectKey::new(kind, if kind.is_namespaced() { namespace } else { "" }, &name);
                self.refused.insert(key, origin.clone());
            }
        }
    }

    fn typed(&mut self, kind: Kind, value: Value, subject: &str, origin: &Origin) -> Result<Object, (String, String)> {
        let mut unknown = Vec::new();
        let object = match kind {
            Kind::Namespace => Object::Namespace(deserialize(value, &mut unknown)?),
            Kind::ServiceAccount => Object::ServiceAccount(deserialize(value, &mut unknown)?),
            Kind::Service => Object::Service(deserialize(value, &mut unknown)?),
            Kind::EndpointSlice => Object::EndpointSlice(deserialize(value, &mut unknown)?),
            Kind::Pod => Object::Pod(deserialize(value, &mut unknown)?),
            Kind::Deployment => Object::Deployment(deserialize(value, &mut unknown)?),
            Kind::Job => Object::Job(deserialize(value, &mut unknown)?),
            Kind::ConfigMap => Object::ConfigMap(deserialize(value, &mut unknown)?),
            Kind::MeshConfig => Object::MeshConfig(deserialize(value, &mut unknown)?),
            Kind::HttpRouteGroup => Object::HttpRouteGroup(deserialize(value, &mut unknown)?),
            Kind::TcpRoute => Object::TcpRoute(deserialize(value, &mut unknown)?),
            Kind::TrafficTarget => Object::TrafficTarget(deserialize(value, &mut unknown)?),
        };
        // Outside of the spec nothing is granted.
        let narrows = |field: &String| !field.starts_with("metadata.") && !field.starts_with("status");
        if kind.grants_access()
            && let Some(field) = unknown.iter().find(|field| narrows(field))
        {
            return Err((field.clone(), format!("{kind} has no such field, and it may narrow what is granted")));
        }
        for field in unknown {
            self.problems.push(
                Problem::new(subject, Reason::UnknownField, format!("{kind} has no such field; ignored"))
                    .with_field(field)
                    .with_hint("check the spelling and the indentation")
                    .with_origin(Some(origin.clone())),
            );
        }
        Ok(object)
    }

    fn refuse(&mut self, origin: &Origin, subject: &str, field: &str, message: &str, hint: &str) {
        self.is_broken = true;
        self.problems.push(
            Problem::new(subject, Reason::InvalidField, message)
                .with_field(field)
                .with_hint(hint)
                .with_origin(Some(origin.clone())),
        );
    }
}

/// Reads a value as `T`; fields that `T` does not have are collected, a value that does not fit names its field.
///
/// The reader's type is erased before `T` sees it: each kind would otherwise be compiled for the two wrappers around the
/// value, and this crate takes half as long again as all that it is built on.
fn deserialize<T: DeserializeOwned>(value: Value, unknown: &mut Vec<String>) -> Result<T, (String, String)> {
    let mut track = serde_path_to_error::Track::new();
    let result = {
        let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
        let mut ignore = |path: serde_ignored::Path<'_>| {
            let field = as_written(&path.to_string());
            if field != "apiVersion" && field != "kind" {
                unknown.push(field);
            }
        };
        let mut erased =
            <dyn erased_serde::Deserializer>::erase(serde_ignored::Deserializer::new(tracked, &mut ignore));
        erased_serde::deserialize(&mut erased)
    };
    result.map_err(|error| {
        let field = track.path().to_string();
        (if field == "." { String::new() } else { field }, error.to_string())
    })
}

/// `spec.?.ports.?.0.prot` as people write it: `spec.ports[0].prot`. The `?` stand for `Option`s.
fn as_written(path: &str) -> String {
    let mut written = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            written.push_str(&format!("[{part}]"));
        } else {
            if !written.is_empty() {
                written.push('.');
            }
            written.push_str(part);
        }
    }
    written
}

fn known_kind(kind: &str, version: &str) -> Option<Kind> {
    let found = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
    let is_served = version == found.api_version()
        // OSM serves both, without conversion: a v1alpha1 object is read as v1alpha2.
        || (found == Kind::MeshConfig && version == "config.openservicemesh.io/v1alpha1");
    is_served.then_some(found)
}

fn unknown_kind(subject: &str, kind: &str, version: &str) -> Problem {
    let same_name = Kind::ALL.into_iter().find(|k| k.name() == kind);
    let (message, hint) = match same_name {
        Some(found) => {
            (format!("apiVersion {version} of {kind} is not read; skipped"), format!("use {}", found.api_version()))
        }
        None => (
            format!("kind {kind} of {version} is not read; skipped"),
            format!("kinds that are read: {}", Kind::ALL.map(Kind::name).join(", ")),
        ),
    };
    let field = if same_name.is_some() { "apiVersion" } else { "kind" };
    Problem::new(subject, Reason::UnknownKind, message).with_field(field).with_hint(hint)
}
