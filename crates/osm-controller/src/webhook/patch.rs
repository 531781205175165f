//! What is changed in an object, so that fields that we have never heard of survive.
//!
//! A cluster may be newer than we are. Its pods then have fields that our types do not hold, and the difference of
//! our types to the object as it came would remove them.

use json_patch::Patch;
use serde_json::Value;

/// The patch that makes of `raw` what became of it: `read` is what our types understood of `raw`, and `wanted` is what
/// we made of that.
pub(super) fn patch(raw: &Value, read: &Value, wanted: Value) -> Patch {
    let mut wanted = wanted;
    carry(raw, read, &mut wanted);
    json_patch::diff(raw, &wanted)
}

/// Puts what was in `raw`, and not in `read`, into its place in `wanted`.
fn carry(raw: &Value, read: &Value, wanted: &mut Value) {
    match (raw, read, wanted) {
        (Value::Object(raw), Value::Object(read), Value::Object(wanted)) => {
            for (key, value) in raw {
                match (read.get(key), wanted.get_mut(key)) {
                    (None, None) => {
                        wanted.insert(key.clone(), value.clone());
                    }
                    (Some(read), Some(wanted)) => carry(value, read, wanted),
                    // We put something where there was nothing for us, or took away what we understood.
                    (None, Some(_)) | (Some(_), None) => {}
                }
            }
        }
        (Value::Array(raw), Value::Array(read), Value::Array(wanted)) if raw.len() == read.len() => {
            let is_moved = raw.len() != wanted.len() || raw.iter().any(|item| name(item).is_some());
            for (index, (raw, read)) in raw.iter().zip(read).enumerate() {
                let place = match name(raw) {
                    Some(of) => wanted.iter_mut().find(|item| name(item) == Some(of)),
                    None if is_moved => wanted.iter_mut().find(|item| *item == read),
                    None => wanted.get_mut(index),
                };
                if let Some(place) = place {
                    carry(raw, read, place);
                }
            }
        }
        _ => {}
    }
}

/// How the items of Kubernetes' lists are told apart.
fn name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_we_do_not_know_survives_beside_what_we_change() {
        let raw = json!({
            "metadata": {"creationTimestamp": null, "new": 1},
            "containers": [{"name": "a", "new": {"x": 1}}, {"name": "b", "ports": [{"containerPort": 1, "new": 2}]}]});
        let read =
            json!({"metadata": {}, "containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 1}]}]});
        let wanted = json!({
            "metadata": {"labels": {"l": "m"}},
            "containers": [{"name": "envoy"}, {"name": "a"}, {"name": "b", "ports": [{"containerPort": 1}]}]});
        let mut patched = raw.clone();
        json_patch::patch(&mut patched, &patch(&raw, &read, wanted)).unwrap();
        let expected = json!({
            "metadata": {"creationTimestamp": null, "new": 1, "labels": {"l": "m"}},
            "containers": [
                {"name": "envoy"}, {"name": "a", "new": {"x": 1}},
                {"name": "b", "ports": [{"containerPort": 1, "new": 2}]}]});
        assert_eq!(patched, expected);
    }
}
