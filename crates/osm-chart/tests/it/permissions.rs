//! What the controller may do is what docs/install.md says, word by word.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::chart::{rendered, root};

/// Where, API group, resource, name of the object, verb.
type Permission = [String; 5];

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn of_chart() -> BTreeSet<Permission> {
    let mut found = BTreeSet::new();
    for object in rendered(json!({})).objects {
        let place = match object["kind"].as_str() {
            Some("ClusterRole") => "everywhere",
            Some("Role") => "osm-system",
            _ => continue,
        };
        for rule in object["rules"].as_array().unwrap() {
            let names =
                if rule["resourceNames"].is_null() { vec![String::new()] } else { words(&rule["resourceNames"]) };
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for name in &names {
                        for verb in words(&rule["verbs"]) {
                            found.insert([place.to_owned(), group.clone(), resource.clone(), name.clone(), verb]);
                        }
                    }
                }
            }
        }
    }
    found
}

/// Rows look like: | everywhere | apps | deployments, pods | get, list | why | ; a resource may be `kind/NAME`.
fn of_document() -> BTreeSet<Permission> {
    let text = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let mut found = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| everywhere |") || line.starts_with("| osm-system |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let group = if cells[1] == "core" { "" } else { cells[1] };
        for resource in cells[2].split(", ") {
            let (resource, name) = resource.split_once(" named ").unwrap_or((resource, ""));
            for verb in cells[3].split(", ") {
                found.insert([cells[0], group, resource, name, verb].map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn the_chart_grants_what_the_document_says() {
    let (chart, document) = (of_chart(), of_document());
    let undocumented: Vec<_> = chart.difference(&document).collect();
    let missing: Vec<_> = document.difference(&chart).collect();
    assert!(undocumented.is_empty(), "granted, but not in docs/install.md: {undocumented:#?}");
    assert!(missing.is_empty(), "in docs/install.md, but not granted: {missing:#?}");
}

#[test]
fn nothing_is_granted_by_a_star() {
    assert!(of_chart().iter().flatten().all(|word| word != "*"));
}
