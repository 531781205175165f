//! The manifests of the demo fit together: whatever one object names, another one is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Objects by kind, namespace and name.
type Objects = BTreeMap<(String, String, String), Value>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bookstore")
}

fn objects() -> Objects {
    let mut objects = Objects::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        // Variants of what others hold: applied later, or instead.
        if file == "images.yaml" || file.starts_with("mesh-config-") || file == "policies-allow-bookthief.yaml" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let key = (word(&object["kind"]), word(&metadata["namespace"]), word(&metadata["name"]));
            assert!(objects.insert(key.clone(), object).is_none(), "{key:?} is there twice");
        }
    }
    objects
}

fn of_kind<'a>(objects: &'a Objects, kind: &str) -> Vec<(&'a str, &'a str, &'a Value)> {
    let found: Vec<_> = objects
        .iter()
        .filter(|((k, _, _), _)| k == kind)
        .map(|((_, namespace, name), object)| (namespace.as_str(), name.as_str(), &object["spec"]))
        .collect();
    assert!(!found.is_empty(), "no {kind} in the demo");
    found
}

fn list<'a>(value: &'a Value, what: &str) -> &'a Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{what} is not a list: {value}"))
}

fn is_there(objects: &Objects, kind: &str, namespace: &str, name: &Value) {
    let key = (kind.to_owned(), namespace.to_owned(), name.as_str().unwrap_or_default().to_owned());
    assert!(objects.contains_key(&key), "{key:?} is named, but not there");
}

#[test]
fn workloads_have_an_image_a_service_account_and_a_namespace_of_the_mesh() {
    let objects = objects();
    let images: Value = serde_saphyr::from_str(&fs::read_to_string(folder().join("images.yaml")).unwrap()).unwrap();
    for (namespace, name, spec) in of_kind(&objects, "Deployment") {
        let pod = &spec["template"]["spec"];
        is_there(&objects, "ServiceAccount", namespace, &pod["serviceAccountName"]);
        let container = &pod["containers"][0];
        let image = container["image"].as_str().unwrap();
        let untagged = image.strip_suffix(":latest-main").unwrap();
        let program = container["command"][0].as_str().unwrap();
        let place =
            images["images"][untagged]["mounts"][program].as_str().unwrap_or_else(|| panic!("{program} of {name}"));
        assert!(place.ends_with("target/ci/osm-bookstore"), "{place}");
        let home = &objects[&("Namespace".to_owned(), String::new(), namespace.to_owned())]["metadata"];
        assert_eq!(home["labels"]["openservicemesh.io/monitored-by"], "osm", "{namespace}");
        assert_eq!(home["annotations"]["openservicemesh.io/sidecar-injection"], "enabled", "{namespace}");
    }
}

#[test]
fn services_select_what_is_there() {
    let objects = objects();
    let selected = |namespace: &str, selector: &Value| -> BTreeSet<&str> {
        let wanted = selector.as_object().unwrap();
        let deployments = of_kind(&objects, "Deployment").into_iter();
        deployments
            .filter(|(home, _, spec)| {
                let labels = &spec["template"]["metadata"]["labels"];
                *home == namespace && wanted.iter().all(|(key, value)| labels[key] == *value)
            })
            .map(|(_, name, _)| name)
            .collect()
    };
    let services: BTreeMap<&str, BTreeSet<&str>> = of_kind(&objects, "Service")
        .into_iter()
        // Outside of the mesh, single pods show what the wire looks like there.
        .filter(|(namespace, _, _)| *namespace != "outside")
        .map(|(namespace, name, spec)| {
            assert_eq!(spec["ports"][0]["port"], 14001, "{name}");
            (name, selected(namespace, &spec["selector"]))
        })
        .collect();
    let expected = [
        ("bookstore", ["bookstore-v1", "bookstore-v2"].into()),
        ("bookstore-v1", ["bookstore-v1"].into()),
        ("bookstore-v2", ["bookstore-v2"].into()),
        ("bookwarehouse", ["bookwarehouse"].into()),
    ];
    assert_eq!(services, expected.into());
}

#[test]
fn policies_name_routes_and_accounts_that_are_there_and_the_thief_only_where_it_is_let_in() {
    let mut objects = objects();
    check_policies(&objects, &["bookbuyer", "bookbuyer", "bookstore-v1", "bookstore-v2", "stock-taker"]);

    let text = fs::read_to_string(folder().join("policies-allow-bookthief.yaml")).unwrap();
    for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let key = ("TrafficTarget".to_owned(), "bookstore".to_owned(), name);
        objects.insert(key, object);
    }
    let all = ["bookbuyer", "bookbuyer", "bookstore-v1", "bookstore-v2", "bookthief", "bookthief", "stock-taker"];
    check_policies(&objects, &all);
}

#[track_caller]
fn check_policies(objects: &Objects, expected_sources: &[&str]) {
    let mut sources = Vec::new();
    for (namespace, name, spec) in of_kind(objects, "TrafficTarget") {
        assert_eq!(spec["destination"]["namespace"], namespace, "{name}");
        is_there(objects, "ServiceAccount", namespace, &spec["destination"]["name"]);
        for source in list(&spec["sources"], name) {
            is_there(objects, "ServiceAccount", source["namespace"].as_str().unwrap(), &source["name"]);
            sources.push(source["name"].as_str().unwrap());
        }
        for rule in list(&spec["rules"], name) {
            is_there(objects, "HTTPRouteGroup", namespace, &rule["name"]);
            let group = ("HTTPRouteGroup".to_owned(), namespace.to_owned(), rule["name"].as_str().unwrap().to_owned());
            let matches = list(&objects[&group]["spec"]["matches"], "spec.matches");
            for wanted in list(&rule["matches"], "rules[].matches") {
                assert!(matches.iter().any(|found| found["name"] == *wanted), "{name}: no match {wanted}");
            }
        }
    }
    sources.sort_unstable();
    assert_eq!(sources, expected_sources);
}

#[test]
fn the_two_settings_differ_in_the_mode_alone() {
    let read = |mode: &str| -> Value {
        let path = folder().join(format!("mesh-config-{mode}.yaml"));
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let (mut permissive, mut smi) = (read("permissive"), read("smi"));
    let mode = |config: &mut Value| config["spec"]["traffic"]["enablePermissiveTrafficPolicyMode"].take();
    assert_eq!((mode(&mut permissive), mode(&mut smi)), (true.into(), false.into()));
    assert_eq!(permissive, smi);
    assert_eq!(
        (&smi["metadata"]["namespace"], &smi["metadata"]["name"]),
        (&"osm-system".into(), &"osm-mesh-config".into())
    );
}
