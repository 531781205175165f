//! The edges between our crates are those that the table in ARCHITECTURE.md allows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Rows of the code map look like: | `osm-resolve` | osm-api, osm-model | what it is |
fn allowed(architecture: &str) -> Edges {
    let rows = architecture.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.trim_matches('`').to_owned();
        let edges = cells.next()?.split(',').map(|e| e.trim().to_owned()).filter(|e| e.starts_with("osm-")).collect();
        name.starts_with("osm-").then_some((name, edges))
    })
    .collect()
}

fn actual() -> Edges {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo runs, for it runs this test");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("metadata has packages");
    packages
        .iter()
        .filter(|package| text(&package["name"]).starts_with("osm-"))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a package has dependencies");
            let ours = dependencies
                .iter()
                .filter(|d| d["kind"].is_null() && text(&d["name"]).starts_with("osm-"))
                .map(|d| text(&d["name"]))
                .collect();
            (text(&package["name"]), ours)
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let (allowed, actual) = (allowed(&architecture), actual());
    assert_eq!(
        actual.keys().collect::<Vec<_>>(),
        allowed.keys().collect::<Vec<_>>(),
        "left: the crates there are, right: the crates in the code map of ARCHITECTURE.md"
    );
    let forbidden: Vec<String> = actual
        .iter()
        .flat_map(|(name, edges)| edges.difference(&allowed[name]).map(move |edge| format!("{name} uses {edge}")))
        .collect();
    assert!(forbidden.is_empty(), "not allowed by the code map of ARCHITECTURE.md: {forbidden:#?}");
}
