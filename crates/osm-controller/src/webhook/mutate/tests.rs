//! Laws of the patch, for pods with fields that we have never heard of.

use std::collections::BTreeMap;

use osm_api::{MONITORED_BY, SIDECAR_INJECTION, STARTUP, UNMESHED_INIT_CONTAINERS};
use osm_inject::NativeSidecars;
use osm_redirect::Redirect;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::super::review::ObjectKind;
use super::*;

proptest! {
    #[test]
    fn the_patch_applied_is_the_injected_pod_and_nothing_of_the_users_is_lost(pod in pods(), seed: u64) {
        let (patched, injected) = inject_once(&pod, seed);
        prop_assert_eq!(&serde_json::from_value::<k8s::Pod>(patched.clone()).unwrap(), &injected);
        for (list, field) in [("containers", "newField"), ("initContainers", "newField")] {
            let lost = |item: &&Value| !item[field].is_null() && {
                let after = patched["spec"][list].as_array().unwrap();
                after.iter().all(|other| other["name"] != item["name"] || other[field] != item[field])
            };
            prop_assert_eq!(pod["spec"][list].as_array().into_iter().flatten().find(lost), None);
        }
        prop_assert_eq!(&patched["spec"]["newer"], &pod["spec"]["newer"]);
    }

    #[test]
    fn asked_twice_nothing_changes(pod in pods(), seed: u64) {
        let (once, _) = inject_once(&pod, seed);
        let (twice, _) = inject_once(&once, seed.wrapping_add(1));
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn no_pod_of_any_form_makes_deciding_panic(spec in json_values(), metadata in json_values()) {
        let request = request(json!({"metadata": metadata, "spec": spec}));
        if let Some(Ok(pod)) = pod_to_make(&request) {
            decide(&request, &pod, &namespace(), &policy(), &mut StdRng::seed_from_u64(1));
        }
    }
}

#[test]
fn only_pods_that_are_made_are_looked_at() {
    let made = request(json!({"spec": {"containers": []}}));
    assert!(pod_to_make(&made).is_some());
    assert!(pod_to_make(&Request { operation: Operation::Update, ..made.clone() }).is_none());
    let kind = ObjectKind { kind: "Binding".to_owned(), ..ObjectKind::default() };
    assert!(pod_to_make(&Request { kind, ..made }).is_none());
}

fn inject_once(pod: &Value, seed: u64) -> (Value, k8s::Pod) {
    let request = request(pod.clone());
    let typed = pod_to_make(&request).unwrap().unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let Decision::Injected(answer) = decide(&request, &typed, &namespace(), &policy(), &mut rng) else {
        panic!("not injected")
    };
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &answer.patch.unwrap()).unwrap();
    let injected = inject(&typed, &namespace(), &policy(), &mut StdRng::seed_from_u64(seed)).unwrap();
    let Injection::Injected { pod, .. } = injected else { panic!("not injected") };
    let mut injected = *pod;
    injected.metadata.namespace = None;
    (patched, injected)
}

fn request(object: Value) -> Request {
    Request {
        uid: "u".to_owned(),
        kind: ObjectKind { group: String::new(), version: "v1".to_owned(), kind: "Pod".to_owned() },
        name: String::new(),
        namespace: "shop".to_owned(),
        operation: Operation::Create,
        object,
        old_object: Value::Null,
        dry_run: None,
    }
}

fn namespace() -> k8s::Namespace {
    let one = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    let mut namespace = k8s::Namespace::default();
    namespace.metadata.name = Some("shop".to_owned());
    namespace.metadata.labels = one(MONITORED_BY, "osm");
    namespace.metadata.annotations = one(SIDECAR_INJECTION, "enabled");
    namespace
}

fn policy() -> InjectPolicy {
    InjectPolicy {
        mesh_name: "osm".to_owned(),
        osm_namespace: "osm-system".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        sidecar_image: "sidecar".to_owned(),
        init_image: "init".to_owned(),
        image_pull_policy: "Never".to_owned(),
        controller_address: "controller:15128".to_owned(),
        controller_name: "controller".to_owned(),
        root_ca_pem: "PEM".to_owned(),
        log_level: "error".to_owned(),
        resources: None,
        concurrency: None,
        privileged_init: false,
        redirect: Redirect::default(),
        native_sidecars: NativeSidecars::Available,
        startup: None,
        hold: None,
    }
}

/// Pods as they come over the wire, with a field of a later version here and there.
fn pods() -> impl Strategy<Value = Value> {
    let restarts = prop::sample::select(vec![Value::Null, json!("Always"), json!("Never")]);
    let lists = (option::of(containers("init")), containers("app"));
    let shapes = option::of(prop::sample::select(vec!["init", "native", "merged"]));
    let wishes = (shapes, any::<bool>());
    let all = (restarts, lists, any::<bool>(), option::of(0..9), wishes);
    all.prop_map(|(restart, (inits, mut apps), is_labelled, newer, (shape, is_last_init_unmeshed))| {
        if apps.is_empty() {
            apps.push(json!({"name": "app-0"}));
        }
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-", "creationTimestamp": null},
            "spec": {"containers": apps, "restartPolicy": restart}});
        if let Some(shape) = shape {
            pod["metadata"]["annotations"] = json!({STARTUP: shape});
        }
        if let Some(inits) = inits {
            if let (Some(last), true) = (inits.last(), is_last_init_unmeshed) {
                pod["metadata"]["annotations"][UNMESHED_INIT_CONTAINERS] = last["name"].clone();
            }
            pod["spec"]["initContainers"] = inits.into();
        }
        if is_labelled {
            pod["metadata"]["labels"] = json!({"app": "web"});
        }
        if let Some(newer) = newer {
            pod["spec"]["newer"] = json!({"deep": [newer]});
        }
        pod
    })
}

fn containers(kind: &'static str) -> impl Strategy<Value = Vec<Value>> {
    let container = (option::of(0..9), option::of(1..2000_i32), any::<bool>()).prop_map(
        |(newer, port, is_mounted): (Option<i32>, _, _)| {
            let mut container = json!({"resources": {}, "terminationMessagePath": "/dev/termination-log"});
            if let Some(newer) = newer {
                container["newField"] = newer.into();
            }
            if let Some(port) = port {
                container["readinessProbe"] = json!({"httpGet": {"port": port, "path": "/ok", "scheme": "HTTP"}});
            }
            if is_mounted {
                container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
            }
            container
        },
    );
    vec(container, 0..3).prop_map(move |mut containers| {
        for (index, container) in containers.iter_mut().enumerate() {
            container["name"] = format!("{kind}-{index}").into();
        }
        containers
    })
}

fn json_values() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec!["containers", "initContainers", "name", "annotations", "httpGet", "x"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(words.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}
