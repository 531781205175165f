//! `osm install` and what follows it, against a cluster that keeps objects.

use std::fs;

use serde_json::{Value, json};

use crate::api::{Api, unreachable_kubeconfig};
use crate::lab::said;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/osm-system/deployments/osm-controller";
const SHOP: &str = "/api/v1/namespaces/shop";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/osm-webhook-osm";

#[track_caller]
fn done(api: &Api, words: &str) -> String {
    let output = api.osm(words);
    assert!(output.status.success(), "osm {words}: {}", said(&output));
    said(&output)
}

#[track_caller]
fn refused(api: &Api, words: &str, expected: &str) {
    let output = api.osm(words);
    assert_eq!(output.status.code(), Some(1), "osm {words}: {}", said(&output));
    assert!(said(&output).contains(expected), "{}", said(&output));
}

#[test]
fn a_mesh_is_installed_used_upgraded_and_taken_away_without_a_trace() {
    let api = Api::start().that_works().with_namespace("shop", json!({"team": "a"}));
    let before = api.get(SHOP).unwrap()["metadata"]["labels"].clone();
    let text = done(&api, "install --set osm.image.tag=v1");
    assert!(text.contains("OSM installed successfully in namespace [osm-system] with mesh name [osm]"), "{text}");
    assert!(text.contains("12 kinds of objects are known to the cluster"), "{text}");
    let image = |api: &Api| api.get(DEPLOYMENT).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image(&api), "openservicemesh/osm-controller:v1");
    let labels = api.get("/api/v1/namespaces/osm-system").unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "baseline");

    refused(&api, "install", "mesh osm in namespace osm-system is there already\n\nhint: to bring it to other values");
    refused(
        &api,
        "install --mesh-name blue --osm-namespace blue",
        "mesh osm in namespace osm-system is to be the only one",
    );

    let text = done(&api, "namespace add shop");
    assert!(text.contains("Namespace [shop] successfully added to mesh [osm]\n"), "{text}");
    assert!(text.contains("kubectl rollout restart deployment -n shop"), "{text}");
    assert!(done(&api, "namespace add shop").contains("Namespace [shop] has already been added to mesh [osm]"));
    let text = done(&api, "namespace list");
    assert_eq!(text, "NAMESPACE  MESH  SIDECAR-INJECTION\nshop       osm   enabled\n");
    let text = done(&api, "mesh list");
    assert!(text.contains("osm        osm-system      latest-main  shop              1/1"), "{text}");
    let meshes: Value = serde_json::from_str(&done(&api, "mesh list -o json")).unwrap();
    assert_eq!(meshes[0]["namespaces"], json!(["shop"]));
    assert!(done(&api, "version").contains("osm        osm-system      latest-main"), "{}", done(&api, "version"));

    let text = done(&api, "mesh upgrade --set osm.image.tag=v2,osm.osmController.enablePodDisruptionBudget=false");
    assert!(text.contains("OSM successfully upgraded mesh [osm] in namespace [osm-system]"), "{text}");
    assert!(text.contains("PodDisruptionBudget osm-controller deleted"), "{text}");
    assert_eq!(image(&api), "openservicemesh/osm-controller:v2");
    assert_eq!(api.get(WEBHOOK).unwrap()["webhooks"][0]["clientConfig"]["caBundle"], "Zm9v");

    let text = done(&api, "uninstall mesh -f -a --delete-namespace");
    assert!(text.contains("OSM [mesh name: osm] in namespace [osm-system] uninstalled"), "{text}");
    assert_eq!(api.paths(), [SHOP]);
    let shop = api.get(SHOP).unwrap();
    assert_eq!(shop["metadata"]["labels"], before);
    assert_eq!(shop["metadata"]["annotations"], json!({}));
}

#[test]
fn what_the_controller_made_goes_with_the_mesh_and_crds_stay() {
    let api = Api::start().that_works();
    done(&api, "install");
    let secret = "/api/v1/namespaces/osm-system/secrets/osm-ca-bundle";
    let settings = "/apis/config.openservicemesh.io/v1alpha2/namespaces/osm-system/meshconfigs/osm-mesh-config";
    api.put(secret, json!({"metadata": {"name": "osm-ca-bundle"}}));
    api.put(settings, json!({"metadata": {"name": "osm-mesh-config"}}));
    assert!(done(&api, "uninstall mesh --force --mesh-name ohm").contains("there is no mesh ohm"));
    assert!(api.get(secret).is_some() && api.get(settings).is_some());
    // Nobody answers the question, so nothing happens.
    refused(&api, "uninstall mesh -a", "CRDs stay: mesh osm in namespace osm-system needs them");
    assert!(api.get(secret).is_some() && api.get(DEPLOYMENT).is_some());
    done(&api, "uninstall mesh --force --mesh-name osm");
    let left = api.paths();
    assert_eq!(left.iter().filter(|path| path.contains("customresourcedefinitions")).count(), 12);
    let others: Vec<_> = left.iter().filter(|path| !path.contains("customresourcedefinitions")).collect();
    assert_eq!(others, ["/api/v1/namespaces/osm-system"]);
    assert!(done(&api, "uninstall mesh -f --mesh-name osm").contains("there is no mesh osm\n"));
}

#[test]
fn an_image_that_cannot_be_had_is_told_at_once_and_atomic_leaves_nothing() {
    let api = Api::start().that_works();
    api.on_apply("/deployments/", json!({"status": {"availableReplicas": 0}}));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "osm-controller-1", "namespace": "osm-system",
            "labels": {"app": "osm-controller", "app.kubernetes.io/instance": "osm"}},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "osm-controller", "image": "openservicemesh/osm-controller:latest-main", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "it is not on the node"}}}]}
    });
    let path = "/api/v1/namespaces/osm-system/pods/osm-controller-1";
    api.put(path, pod);
    let expected = "pod osm-system/osm-controller-1: image openservicemesh/osm-controller:latest-main cannot be had: \
                    ErrImageNeverPull: it is not on the node\n\nhint: name one that the nodes can pull";
    refused(&api, "install --atomic", expected);
    let left = api.paths();
    assert!(left.iter().all(|path| path.contains("customresourcedefinitions") || path.starts_with("/api/v1/namespaces/osm-system")), "{left:?}");
    assert!(!left.iter().any(|path| path.contains("services/") || path.contains("serviceaccounts")), "{left:?}");
}

#[test]
fn a_missing_right_is_told_before_anything_is_changed() {
    let api = Api::start().that_works();
    api.forbid("create", "clusterroles");
    api.forbid("patch", "customresourcedefinitions");
    refused(&api, "install", "you may not create clusterroles, patch customresourcedefinitions\n\nhint: have somebody");
    assert_eq!(api.paths(), [""; 0]);
    assert!(!api.requests().iter().any(|request| request.starts_with("PATCH")));
}

#[test]
fn a_namespace_that_is_going_takes_no_mesh() {
    let api = Api::start().that_works();
    let going = json!({"metadata": {"name": "osm-system", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "NamespaceContentRemaining", "status": "True", "message": "1 pod left"}]}});
    api.put("/api/v1/namespaces/osm-system", going);
    refused(&api, "install", "namespace osm-system is being deleted: 1 pod left\n\nhint: wait for its end");
}

#[test]
fn namespaces_are_added_ignored_and_removed_in_osms_words() {
    let api = Api::start().that_works().with_namespace("shop", json!({})).with_namespace("other", json!({}));
    refused(&api, "namespace add shop", "there is no mesh osm\n\nhint: there is none in this cluster");
    done(&api, "install");
    refused(&api, "namespace add nowhere", "there is no namespace nowhere\n\nhint: see what there is");
    let words = "Namespace [osm-system] already has [osm-controller] installed and cannot be added to mesh [osm]";
    assert!(done(&api, "namespace add osm-system").contains(words));
    done(&api, "namespace add shop --disable-sidecar-injection");
    assert_eq!(api.get(SHOP).unwrap()["metadata"]["annotations"]["openservicemesh.io/sidecar-injection"], "disabled");
    let words = "Successfully configured namespace [other] to be ignored";
    assert!(done(&api, "namespace ignore other").contains(words));
    refused(&api, "namespace add other", "namespace other is to be ignored by every mesh");
    refused(&api, "namespace remove shop --mesh-name blue", "namespace shop belongs to mesh osm, not to blue");
    assert!(done(&api, "namespace remove shop").contains("Namespace [shop] successfully removed from mesh [osm]"));
    assert!(done(&api, "namespace remove shop").contains("Namespace [shop] already does not belong to any mesh"));
    assert_eq!(done(&api, "namespace list"), "No namespaces in mesh\n");
}

#[test]
fn a_mesh_of_helm_is_left_to_helm() {
    let api = Api::start();
    let labels = json!({"app": "osm-controller", "meshName": "osm", "app.kubernetes.io/managed-by": "Helm"});
    let deployment = json!({"metadata": {"name": "osm-controller", "namespace": "osm-system", "labels": labels},
        "spec": {"selector": {}, "template": {}}});
    api.put(DEPLOYMENT, deployment);
    refused(
        &api,
        "uninstall mesh -f",
        "was installed with helm\n\nhint: use it for this too: helm uninstall osm -n osm-system",
    );
    refused(&api, "mesh upgrade", "was installed with helm");
}

#[test]
fn without_a_cluster_it_is_said_where_one_was_looked_for() {
    let folder = std::env::temp_dir().join(format!("osm-unreachable-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kubeconfig");
    fs::write(&file, unreachable_kubeconfig()).unwrap();
    let file = file.to_str().unwrap();
    let output = crate::lab::osm(&["mesh", "list", "--kubeconfig", file]);
    let text = said(&output);
    assert!(text.contains("looking for meshes: no cluster answers at http://127.0.0.1:"), "{text}");
    assert!(
        text.contains("connection refused\n\nhint: check that the cluster is up and that context lab leads to it"),
        "{text}"
    );
    let output = crate::lab::osm(&["mesh", "list", "--kubeconfig", "/no/such/file"]);
    assert!(said(&output).contains("/no/such/file cannot be read: "), "{}", said(&output));
    let output = crate::lab::osm(&["mesh", "list", "--kubeconfig", file, "--context", "other"]);
    assert!(said(&output).contains("there is no way to a cluster: "), "{}", said(&output));
    let output = crate::lab::osm(&["version", "--kubeconfig", file]);
    assert!(output.status.success() && said(&output).contains("CLI Version: dev"), "{}", said(&output));
    let _ = fs::remove_dir_all(&folder);
}

#[test]
fn what_would_be_installed_is_printed_without_a_cluster() {
    let output = crate::lab::osm(&["install", "--dry-run", "--set", "osm.image.tag=v9", "--mesh-name", "blue"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(objects[0]["kind"], "Namespace");
    assert_eq!(objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").count(), 12);
    assert!(text.contains("image: openservicemesh/osm-controller:v9") && text.contains("--mesh-name=blue"));
}
