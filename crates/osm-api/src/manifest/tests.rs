use super::*;

fn problems(text: &str) -> Vec<String> {
    ManifestSet::default().put("a.yaml", text).problems.iter().map(Problem::to_string).collect()
}

fn keys(update: &Update) -> Vec<String> {
    update
        .changes
        .iter()
        .map(|change| match change {
            Change::Apply(object, _) => format!("+{}", object.key()),
            Change::Delete(key) => format!("-{key}"),
        })
        .collect()
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

#[test]
fn a_malformed_document_does_not_hide_the_next() {
    let update = ManifestSet::default().put("a.yaml", &format!("kind: [\n---\n{SERVICE}"));
    assert_eq!(keys(&update), ["+Service shop/web"]);
    assert_eq!(update.problems.len(), 1);
    assert_eq!(update.problems[0].reason, Reason::Syntax);
    assert_eq!(update.problems[0].origin.as_ref().map(|o| (o.document, o.line)), Some((1, 1)));
}

#[test]
fn a_wrong_type_names_the_field() {
    let text = SERVICE.replace("port: 80", "port: eighty");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("Service shop/web: spec.ports[0].port"), "{}", found[0]);
}

#[test]
fn an_unknown_field_is_named_and_ignored() {
    let update = ManifestSet::default().put("a.yaml", &SERVICE.replace("port: 80", "port: 80, prot: TCP"));
    assert_eq!(keys(&update), ["+Service shop/web"]);
    assert_eq!(update.problems[0].field, "spec.ports[0].prot");
    assert_eq!(update.problems[0].reason, Reason::UnknownField);
}

#[test]
fn unknown_kinds_and_versions_are_skipped_with_what_would_be_read() {
    let found = problems(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\n---\napiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: d}\n",
    );
    assert!(found[0].contains("CronJob j: kind: kind CronJob of batch/v1 is not read"), "{}", found[0]);
    assert!(found[1].ends_with("use apps/v1"), "{}", found[1]);
}

#[test]
fn a_second_object_of_one_name_does_not_count() {
    let mut set = ManifestSet::default();
    set.put("a.yaml", SERVICE);
    let update = set.put("b.yaml", &SERVICE.replace("80", "81"));
    assert_eq!(keys(&update), Vec::<String>::new());
    assert_eq!(update.problems[0].reason, Reason::Duplicate);
    assert!(update.problems[0].message.contains("a.yaml, document 1"), "{}", update.problems[0]);
    assert_eq!(keys(&set.remove("a.yaml")), ["+Service shop/web"], "the second takes over");
}

#[test]
fn what_a_file_held_stays_while_it_is_broken() {
    let mut set = ManifestSet::default();
    set.put("a.yaml", SERVICE);
    assert_eq!(keys(&set.put("a.yaml", "kind: [")), Vec::<String>::new());
    assert_eq!(keys(&set.put("a.yaml", "")), ["-Service shop/web"]);
}

const GRANT: &str = "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: shop}
  sources: [{kind: ServiceAccount, name: client, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: web, matches: [read]}]
";

#[test]
fn a_grant_with_an_unknown_field_or_a_wrong_type_is_withdrawn_and_its_neighbours_stay() {
    for (right, wrong, field) in [
        ("matches:", "match:", "spec.rules[0].match"),
        ("matches: [read]", "matches: read", "spec.rules[0].matches"),
        ("spec:", "specs:", "specs"),
    ] {
        let mut set = ManifestSet::default();
        let both = format!("{SERVICE}---\n{GRANT}");
        assert_eq!(keys(&set.put("a.yaml", &both)), ["+TrafficTarget shop/web", "+Service shop/web"]);
        let update = set.put("a.yaml", &format!("{SERVICE}---\n{}", GRANT.replace(right, wrong)));
        assert_eq!(update.problems.len(), 1, "{:?}", update.problems);
        assert_eq!((&*update.problems[0].subject, &*update.problems[0].field), ("TrafficTarget shop/web", field));
        assert_eq!(keys(&update), ["-TrafficTarget shop/web"]);
        assert_eq!(keys(&set.put("a.yaml", &both)), ["+TrafficTarget shop/web"]);
    }
}

#[test]
fn a_file_that_is_not_yaml_leaves_its_grants_as_they_were() {
    let mut set = ManifestSet::default();
    set.put("a.yaml", GRANT);
    assert_eq!(keys(&set.put("a.yaml", "kind: [")), Vec::<String>::new());
}

#[test]
fn settings_that_cannot_be_understood_do_not_open_the_mesh() {
    let config = "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: m, namespace: o}
spec: {traffic: {enablePermissiveTrafficPolicyMode: VALUE}}
";
    let is_permissive = |update: &Update| match &update.changes[..] {
        [Change::Apply(object, _)] => match &**object {
            Object::MeshConfig(config) => Some(config.spec.traffic.enable_permissive_traffic_policy_mode),
            other => panic!("{other:?}"),
        },
        [] => None,
        other => panic!("{other:?}"),
    };
    let mut set = ManifestSet::default();
    let update = set.put("a.yaml", &config.replace("VALUE", "certainly not"));
    assert_eq!(update.problems[0].field, "spec.traffic.enablePermissiveTrafficPolicyMode");
    assert_eq!(is_permissive(&update), Some(false));
    assert_eq!(is_permissive(&set.put("a.yaml", &config.replace("VALUE", "true"))), Some(true));
    assert_eq!(is_permissive(&set.put("a.yaml", &config.replace("VALUE", "no way"))), None, "the last good value");
}

#[test]
fn policies_as_users_of_osm_write_them_are_read() {
    let text = "kind: HTTPRouteGroup
apiVersion: specs.smi-spec.io/v1alpha4
metadata: {name: routes, namespace: bookstore}
spec:
  matches:
  - name: books-bought
    pathRegex: /books-bought
    methods: [GET]
    headers:
    - \"user-agent\": \".*-http-client/*.*\"
    - \"client-app\": \"bookbuyer\"
---
{kind: TCPRoute, apiVersion: specs.smi-spec.io/v1alpha4, metadata: {name: db, namespace: bookstore}, spec: {matches: {ports: [3306]}}}
";
    let update = ManifestSet::default().put("a.yaml", text);
    assert_eq!(update.problems, []);
    assert_eq!(keys(&update), ["+HTTPRouteGroup bookstore/routes", "+TCPRoute bookstore/db"]);
    for change in &update.changes {
        let Change::Apply(object, _) = change else { panic!("not applied") };
        let again = ManifestSet::default().put("b.json", &object.to_manifest().to_string());
        let Change::Apply(read, _) = &again.changes[0] else { panic!("not applied") };
        assert_eq!(read, object);
    }
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let found = problems(&SERVICE.replace("name: web", "name: ../../etc"));
    assert!(found[0].contains("metadata.name"), "{}", found[0]);
}

#[test]
fn ten_thousand_objects_are_read() {
    let text: String = (0..10_000).map(|i| format!("---\n{}", SERVICE.replace("web", &format!("web-{i}")))).collect();
    let update = ManifestSet::default().put("a.yaml", &text);
    assert_eq!((update.changes.len(), update.problems.len()), (10_000, 0));
}

#[test]
fn a_manifest_reads_back_as_the_object() {
    let mut set = ManifestSet::default();
    let update = set.put("a.yaml", SERVICE);
    let Change::Apply(object, _) = &update.changes[0] else { panic!("not applied") };
    let again = ManifestSet::default().put("b.json", &object.to_manifest().to_string());
    let Change::Apply(read, _) = &again.changes[0] else { panic!("not applied") };
    assert_eq!(read, object);
}
