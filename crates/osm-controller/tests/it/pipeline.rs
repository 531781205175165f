//! The whole pipeline: manifests in, what one pod is told out. `# pod:` names the pod, `# keep:` types, or single
//! resources as `listener inbound-listener`; `# drop:` names fields that other golden files pin.

use osm_api::ManifestSet;
use osm_controller::Core;
use osm_model::PodName;
use osm_resolve::ResolveOptions;
use osm_testkit::Case;
use osm_translate::to_json;
use serde_json::{Map, Value};

#[test]
fn manifests_come_to_what_a_pod_is_told() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "pipeline", outcome);
}

fn outcome(case: &Case) -> String {
    let mut core = Core::new(ResolveOptions::default());
    core.apply(ManifestSet::default().put(&case.name, &case.input).changes);
    let snapshot = core.publish();
    let (namespace, name) = case.option("pod").and_then(|pod| pod.split_once('/')).expect("`# pod: namespace/name`");
    let pod = PodName { namespace: namespace.to_owned(), name: name.to_owned() };
    let class = snapshot.mesh.proxies.get(&pod).unwrap_or_else(|| panic!("no {pod}: {:?}", snapshot.problems));
    let all = to_json(&snapshot.classes[class]).expect("our own resources are JSON");
    let mut kept = Value::Object(Map::new());
    for part in case.option("keep").expect("`# keep:`").split(", ") {
        let (ty, name) = part.split_once(' ').unwrap_or((part, ""));
        let found = if name.is_empty() { &all[ty] } else { &all[ty][name] };
        assert!(!found.is_null(), "there is no {part}");
        if name.is_empty() {
            kept[ty] = found.clone();
        } else {
            kept[ty][name] = found.clone();
        }
    }
    for field in case.option("drop").into_iter().flat_map(|fields| fields.split(", ")) {
        drop_field(&mut kept, field);
    }
    serde_saphyr::to_string(&kept).expect("JSON is YAML")
}

fn drop_field(value: &mut Value, field: &str) {
    match value {
        Value::Object(map) => {
            map.remove(field);
            map.values_mut().for_each(|value| drop_field(value, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| drop_field(value, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
