use osm_api::ManifestSet;

use super::*;

fn world(text: &str) -> World {
    let mut world = World::default();
    for change in ManifestSet::default().put("test.yaml", text).changes {
        world.apply(change);
    }
    completed(&world)
}

fn check(text: &str, pods: &[&str], problems: &[&str]) {
    let desired = desired(&world(text));
    assert_eq!(desired.pods.keys().map(ToString::to_string).collect::<Vec<_>>(), pods);
    let said: Vec<String> = desired.problems.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), problems.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(problems) {
        assert!(said.contains(expected), "{said} should say {expected}");
    }
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: web}]}
";

#[test]
fn a_deployment_is_so_many_pods_that_carry_its_template() {
    let desired = desired(&world(DEPLOYMENT));
    assert_eq!(desired.pods.len(), 2);
    let (name, first) = desired.pods.first_key_value().unwrap();
    assert_eq!(name.name, format!("web-{}-0", first.revision));
    let metadata = &first.pod.metadata;
    assert_eq!(metadata.labels.as_ref().unwrap()["app"], "web");
    assert_eq!(metadata.owner_references.as_ref().unwrap()[0].name, format!("web-{}", first.revision));
}

#[test]
fn another_template_has_other_names_and_another_number_of_replicas_has_not() {
    let names = |text: &str| desired(&world(text)).pods.into_keys().map(|n| n.name).collect::<Vec<_>>();
    let before = names(DEPLOYMENT);
    assert_eq!(names(&DEPLOYMENT.replace("replicas: 2", "replicas: 1")), before[..1]);
    assert!(!before.contains(&names(&DEPLOYMENT.replace("image: web", "image: new"))[0]));
}

#[test]
fn what_must_exist_is_waited_for_and_named() {
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n");
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
    let plain = pod("{containers: [{name: c}]}");
    check(&plain, &[], &["Pod shop/p: metadata.namespace: namespace shop does not exist"]);
    check(&format!("{shop}{plain}"), &["shop/p"], &[]);
    let account = pod("{serviceAccountName: sa, containers: [{name: c}]}");
    check(&format!("{shop}{account}"), &[], &["spec.serviceAccountName: service account shop/sa does not exist"]);
    let host = pod("{hostNetwork: true, containers: [{name: c}]}");
    check(&format!("{shop}{host}"), &[], &["spec.hostNetwork: a pod of the local runner has no host network"]);
    check(&format!("{shop}{}", pod("{containers: []}")), &[], &["spec.containers: no container"]);
}

#[test]
fn a_deployment_that_cannot_be_says_why() {
    let check_change = |from: &str, to: &str, problem: &str| check(&DEPLOYMENT.replace(from, to), &[], &[problem]);
    check_change("matchLabels: {app: web}", "matchLabels: {app: x}", "does not select the pods of its own template");
    check_change("spec: {containers", "spec: {restartPolicy: Never, containers", "restart always");
}

#[test]
fn more_pods_than_fit_are_cut_with_one_problem() {
    let desired = desired(&world(&DEPLOYMENT.replace("replicas: 2", "replicas: 100000")));
    assert_eq!(desired.pods.len(), MAX_PODS);
    assert_eq!(desired.problems.len(), 1);
    assert!(desired.problems[0].message.contains("at most 500 pods"));
}
