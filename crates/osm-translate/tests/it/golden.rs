//! Views in, Envoy's resources out. `# keep:` names types, or single resources as `listener inbound-listener`;
//! `# drop:` names fields that another case pins.

use osm_testkit::Case;
use osm_translate::{to_json, translate};
use serde_json::{Map, Value};

use crate::view;

#[test]
fn views_come_to_the_resources_that_are_written_down() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "xds", outcome);
}

fn outcome(case: &Case) -> String {
    let all = to_json(&translate(&view::read(&case.input))).expect("our own resources are JSON");
    let mut kept = match case.option("keep") {
        None => all,
        Some(keep) => keep.split(", ").fold(Value::Object(Map::new()), |mut kept, part| {
            let (ty, name) = part.split_once(' ').unwrap_or((part, ""));
            let found = if name.is_empty() { &all[ty] } else { &all[ty][name] };
            assert!(!found.is_null(), "{}: there is no {part}", case.name);
            if name.is_empty() {
                kept[ty] = found.clone()
            } else {
                kept[ty][name] = found.clone()
            }
            kept
        }),
    };
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
