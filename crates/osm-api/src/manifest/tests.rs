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
