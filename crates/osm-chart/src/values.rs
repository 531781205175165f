//! Values: the chart's own, and what is laid over them.

use serde_json::Value;

/// Lays `over` over `values`, map by map. Null takes a value away, as with Helm.
pub fn merge(values: &mut Value, over: Value) {
    match (values, over) {
        (Value::Object(fields), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    fields.remove(&key);
                } else {
                    merge(fields.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (values, over) => *values = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_are_merged_everything_else_is_replaced() {
        let mut values = json!({"a": {"b": 1, "c": [1, 2], "d": {"x": 1}}, "e": 1});
        merge(&mut values, json!({"a": {"b": 2, "c": [3], "d": null, "f": {"g": 1}}}));
        assert_eq!(values, json!({"a": {"b": 2, "c": [3], "f": {"g": 1}}, "e": 1}));
    }
}
