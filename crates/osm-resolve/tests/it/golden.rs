//! Manifests in, the Mesh and the Problems out. `# keep:` says which parts of the output a case pins; the settings
//! are pinned by few, so that a changed default does not touch every file.

use osm_api::{Change, ManifestSet, World};
use osm_resolve::{ResolveOptions, resolve};
use osm_testkit::Case;
use serde_json::{Map, Value, json};

#[test]
fn manifests_come_to_the_mesh_and_problems_that_are_written_down() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "resolve", outcome);
}

fn outcome(case: &Case) -> String {
    let update = ManifestSet::default().put(&format!("{}.yaml", case.name), &case.input);
    let mut world = World::default();
    for change in update.changes {
        assert!(matches!(change, Change::Apply(..)), "a first text takes nothing away");
        world.apply(change);
    }
    assert_eq!(update.problems, [], "a case is about meaning, so its text is right");
    let (mesh, problems) = resolve(&world, &ResolveOptions::default());
    let mesh = serde_json::to_value(&mesh).expect("a mesh is JSON");
    let mut problems: Vec<Value> = problems
        .into_iter()
        .map(|problem| {
            assert!(problem.origin.is_some(), "{problem} has no origin");
            json!(problem.with_origin(None).to_string())
        })
        .collect();
    problems.sort_by_key(Value::to_string);
    let mut kept = Map::new();
    for part in case.option("keep").unwrap_or("services, proxies, problems").split(", ") {
        let value = if part == "problems" { json!(problems) } else { mesh[part].clone() };
        kept.insert(part.to_owned(), value);
    }
    serde_saphyr::to_string(&kept).expect("JSON is YAML")
}
