//! The schemas take what users of OSM have, and refuse what is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use osm_chart::{Chart, violations};
use serde_json::{Value, json};

use crate::chart::{rendered, root};

type Schemas = BTreeMap<(String, String), Value>;

/// The schema of each kind, by `apiVersion` and `kind`.
fn schemas() -> Schemas {
    let mut schemas = Schemas::new();
    for crd in rendered(json!({})).crds {
        let (group, kind) = (&crd["spec"]["group"], &crd["spec"]["names"]["kind"]);
        for version in crd["spec"]["versions"].as_array().unwrap().iter().filter(|version| version["served"] == true) {
            let api_version = format!("{}/{}", group.as_str().unwrap(), version["name"].as_str().unwrap());
            let schema = version["schema"]["openAPIV3Schema"].clone();
            schemas.insert((api_version, kind.as_str().unwrap().to_owned()), schema);
        }
    }
    schemas
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema_of<'a>(schemas: &'a Schemas, object: &Value) -> Option<&'a Value> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    schemas.get(&(text("apiVersion"), text("kind")))
}

fn yaml_files(folder: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_field_of_every_kind_is_accepted() {
    let (schemas, mut kinds) = (schemas(), BTreeSet::new());
    let files = yaml_files("e2e/kubernetes/objects").into_iter().filter(|path| !path.ends_with("refused.yaml"));
    let examples = ["examples/bookstore", "examples/shop"].into_iter().flat_map(yaml_files);
    for path in files.chain(examples) {
        for object in documents(&path) {
            let Some(schema) = schema_of(&schemas, &object) else { continue };
            let found = violations(schema, &object, true);
            assert!(found.is_empty(), "{}: {found:#?}", path.display());
            kinds.insert((object["apiVersion"].to_string(), object["kind"].to_string()));
        }
    }
    assert_eq!(kinds.len(), schemas.len(), "each kind has an example with every field of it: {kinds:#?}");
}

#[test]
fn what_is_broken_is_refused() {
    let schemas = schemas();
    for object in documents(&root().join("e2e/kubernetes/objects/refused.yaml")) {
        let schema = schema_of(&schemas, &object).unwrap_or_else(|| panic!("no schema for {object}"));
        assert!(!violations(schema, &object, true).is_empty(), "{object}");
    }
}

/// The field-complete examples leave no field of a schema out, so that none is misspelt in both.
#[test]
fn examples_have_every_field() {
    let schemas = schemas();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in yaml_files("e2e/kubernetes/objects") {
        for object in documents(&path) {
            let key = format!("{} {}", object["apiVersion"], object["kind"]);
            let mut found = BTreeSet::new();
            paths(&object, "", &mut found);
            used.entry(key).or_default().extend(found);
        }
    }
    for ((api_version, kind), schema) in &schemas {
        // Of the old version only that it is read still.
        if api_version.ends_with("/v1alpha1") && kind == "MeshConfig" {
            continue;
        }
        let mut declared = BTreeSet::new();
        declared_paths(&schema["properties"]["spec"], ".spec", &mut declared);
        let used = &used[&format!("{:?} {:?}", api_version, kind)];
        let unused: Vec<_> = declared.difference(used).collect();
        assert!(unused.is_empty(), "{kind}: {unused:#?}");
    }
}

fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.insert(at.to_owned());
            fields.iter().for_each(|(name, value)| paths(value, &format!("{at}.{name}"), found));
        }
        Value::Array(items) => {
            found.insert(at.to_owned());
            items.iter().for_each(|item| paths(item, at, found));
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

fn declared_paths(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    found.insert(at.to_owned());
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        declared_paths(field, &format!("{at}.{name}"), found);
    }
    if schema["items"].is_object() {
        declared_paths(&schema["items"], at, found);
    }
}

/// What the API server asks of a schema beyond JSON Schema: a type for every node.
#[test]
fn schemas_are_structural() {
    for ((_, kind), schema) in schemas() {
        structural(&schema, &kind);
    }
}

/// What the API server knows of JSON Schema, as far as it is used here. A comma in an unquoted description makes more.
const KEYWORDS: [&str; 18] = [
    "type",
    "description",
    "properties",
    "items",
    "required",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "minItems",
    "default",
    "additionalProperties",
    "oneOf",
    "anyOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

fn structural(schema: &Value, at: &str) {
    let unknown: Vec<_> = schema.as_object().unwrap().keys().filter(|key| !KEYWORDS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{at}: {unknown:?}");
    let is_free =
        schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true;
    assert!(schema["type"].is_string() || is_free, "{at} has no type");
    assert!(schema["properties"].is_null() || schema["additionalProperties"].is_null(), "{at} is both open and closed");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        structural(field, &format!("{at}.{name}"));
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            structural(&schema[part], &format!("{at}.{part}"));
        }
    }
    assert!(schema["type"] != "array" || schema["items"].is_object(), "{at} says nothing of its items");
}

#[test]
fn one_version_of_each_kind_is_stored() {
    for crd in Chart::built_in().render(&release(), json!({})).unwrap().crds {
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1, "{}", crd["metadata"]);
        let name =
            format!("{}.{}", crd["spec"]["names"]["plural"].as_str().unwrap(), crd["spec"]["group"].as_str().unwrap());
        assert_eq!(crd["metadata"]["name"], name);
    }
}

fn release() -> osm_chart::Release {
    osm_chart::Release { name: "osm".into(), namespace: "osm-system".into(), service: "osm".into() }
}
