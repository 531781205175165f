//! What the chart comes to, and that Helm comes to the same.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use osm_chart::{Chart, ChartError, Release, Rendered, apply_set};
use osm_testkit::{Case, golden};
use serde_json::{Value, json};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn release(namespace: &str, service: &str) -> Release {
    Release { name: "osm".into(), namespace: namespace.into(), service: service.into() }
}

pub(crate) fn rendered(values: Value) -> Rendered {
    Chart::built_in().render(&release("osm-system", "osm"), values).unwrap()
}

fn values_of(case: &Case) -> Value {
    serde_saphyr::from_str(&case.input).unwrap()
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { assert!(found.insert(path)) }
    }
    found
}

#[test]
fn the_built_in_chart_is_the_folder() {
    let folder = root().join("charts/osm");
    let files = files_below(&folder).into_iter().filter(|path| !path.ends_with(".helmignore"));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    assert!(
        files.map(read).collect::<Chart>() == Chart::built_in(),
        "the list of files in osm-chart/src/chart.rs is old"
    );
}

/// A case's values, and of the objects those that `keep` names by their kinds.
#[test]
fn values_come_to_objects() {
    golden(env!("CARGO_MANIFEST_DIR"), "chart", |case| {
        let release = release(case.option("namespace").unwrap_or("osm-system"), "osm");
        match Chart::built_in().render(&release, values_of(case)) {
            Ok(rendered) => {
                let keep = case.option("keep").unwrap_or_default();
                let is_kept = |object: &&Value| keep.split(", ").any(|kind| object["kind"] == kind);
                let kept: Vec<String> = rendered.objects.iter().filter(is_kept).map(yaml).collect();
                kept.join("---\n")
            }
            Err(error) => yaml(&json!({ "error": error.to_string() })),
        }
    });
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

#[test]
fn helm_comes_to_the_same() {
    let Some(helm) = helm() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chart");
    for path in files_below(&folder).into_iter().filter(|path| path.to_string_lossy().ends_with(".in.yaml")) {
        let case = Case { name: String::new(), input: fs::read_to_string(&path).unwrap() };
        let namespace = case.option("namespace").unwrap_or("osm-system");
        let output = Command::new(&helm)
            .args(["template", "osm", "charts/osm", "--namespace", namespace, "--kube-version", "1.35.0", "--values"])
            .arg(&path)
            .current_dir(root())
            .output()
            .unwrap();
        match Chart::built_in().render(&release(namespace, "Helm"), values_of(&case)) {
            Ok(ours) => {
                assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
                let text = String::from_utf8(output.stdout).unwrap();
                let mut theirs: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
                let mut ours = ours.objects;
                theirs.sort_by_key(Value::to_string);
                ours.sort_by_key(Value::to_string);
                assert_eq!(ours, theirs, "{}", path.display());
            }
            Err(_) => assert!(!output.status.success(), "{}: helm accepts this", path.display()),
        }
    }
}

#[test]
fn helm_lint_has_nothing_to_say() {
    let Some(helm) = helm() else { return };
    let output = Command::new(&helm).args(["lint", "--strict", "charts/osm"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Helm: `OSM_HELM`, or where `scripts/helm.sh` puts it.
fn helm() -> Option<PathBuf> {
    let built = env::var_os("OSM_HELM").map_or_else(|| "/var/cache/osm/helm-3.19.0/helm".into(), PathBuf::from);
    if !built.exists() {
        skipped();
    }
    built.exists().then_some(built)
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must know that some did not run")]
fn skipped() {
    eprintln!("SKIPPED: there is no helm; scripts/helm.sh builds it");
}

#[test]
fn what_is_typed_counts_most() {
    let mut values = json!({});
    apply_set(&mut values, "osm.image.tag=v1,osm.osmController.replicaCount=3").unwrap();
    let deployment = rendered(values).objects.into_iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3);
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "openservicemesh/osm-controller:v1");
}

#[test]
fn values_that_nobody_knows_are_refused() {
    let mut values = json!({});
    apply_set(&mut values, "osm.image.tags=v1,osm.osmController.replicaCount=0").unwrap();
    let error = Chart::built_in().render(&release("osm-system", "osm"), values).unwrap_err();
    let expected = [
        "osm.image.tags: there is no such field; do you mean tag?",
        "osm.osmController.replicaCount: 0 is less than 1",
    ];
    assert_eq!(error, ChartError::Values(expected.map(str::to_owned).to_vec()));
}

#[test]
fn pods_wait_for_the_controller_last() {
    let kinds: Vec<Value> = rendered(json!({})).objects.iter().map(|object| object["kind"].clone()).collect();
    assert_eq!(kinds.first().unwrap(), "PriorityClass");
    let last: Vec<_> = kinds.iter().rev().take(3).rev().collect();
    assert_eq!(last, ["Deployment", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"]);
}
