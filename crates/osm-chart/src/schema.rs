//! Holds values against JSON schemas: the part of them that the chart and its CRDs use.

use regex::Regex;
use serde_json::Value;

/// What in `value` is not as `schema` wants it, each with its path. Fields that the schema does not know are named if
/// `is_strict`, as Kubernetes names them when it is asked to; otherwise only where the schema itself closes a map.
pub fn violations(schema: &Value, value: &Value, is_strict: bool) -> Vec<String> {
    let mut check = Check { is_strict, found: Vec::new() };
    check.value(schema, value, "");
    check.found
}

struct Check {
    is_strict: bool,
    found: Vec<String>,
}

impl Check {
    fn say(&mut self, path: &str, message: &str) {
        let path = if path.is_empty() { "the whole" } else { path };
        self.found.push(format!("{path}: {message}"));
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(kind) = schema["type"].as_str()
            && !is_of_type(kind, value)
        {
            return self.say(path, &format!("{value} is not {}", with_article(kind)));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let words: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            self.say(path, &format!("{value} is none of {}", words.join(", ")));
        }
        for (keyword, how_many) in [("oneOf", 1..=1), ("anyOf", 1..=usize::MAX)] {
            if let Some(branches) = schema[keyword].as_array() {
                let fitting = branches.iter().filter(|branch| violations(branch, value, false).is_empty()).count();
                if !how_many.contains(&fitting) {
                    self.say(path, &format!("{fitting} of the {} forms that it may have fit", branches.len()));
                }
            }
        }
        match value {
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Array(items) => {
                if schema["minItems"].as_u64().is_some_and(|min| (items.len() as u64) < min) {
                    self.say(path, &format!("at least {} are needed", schema["minItems"]));
                }
                for (index, item) in items.iter().enumerate() {
                    self.value(&schema["items"], item, &format!("{path}[{index}]"));
                }
            }
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn object(&mut self, schema: &Value, fields: &serde_json::Map<String, Value>, path: &str) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.say(&below(name), "is missing");
            }
        }
        let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true || schema["properties"].is_null();
        for (name, value) in fields {
            let known = &schema["properties"][name];
            let others = &schema["additionalProperties"];
            if !known.is_null() {
                self.value(known, value, &below(name));
            } else if others.is_object() {
                self.value(others, value, &below(name));
            } else if *others == false || (self.is_strict && !is_open) {
                let names = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
                let hint = nearest(name, names).map(|near| format!("; do you mean {near}?")).unwrap_or_default();
                self.say(&below(name), &format!("there is no such field{hint}"));
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        if schema["minLength"].as_u64().is_some_and(|min| (text.chars().count() as u64) < min) {
            self.say(path, "may not be empty");
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let is_match = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
            if !is_match {
                self.say(path, &format!("{text:?} does not match {pattern}"));
            }
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &str) {
        let number = number.as_f64().unwrap_or_default();
        if schema["minimum"].as_f64().is_some_and(|minimum| number < minimum) {
            self.say(path, &format!("{number} is less than {}", schema["minimum"]));
        }
        if schema["maximum"].as_f64().is_some_and(|maximum| number > maximum) {
            self.say(path, &format!("{number} is more than {}", schema["maximum"]));
        }
    }
}

fn is_of_type(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn with_article(kind: &str) -> &'static str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

/// The name that `word` most likely stands for.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.to_ascii_lowercase();
    let distances = names.map(|name| (distance(&letters(word), &letters(name)), name));
    distances.filter(|(distance, name)| *distance <= 2.max(name.len() / 4)).min().map(|(_, name)| name)
}

/// How many letters have to be put in, taken out or changed.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_with_its_path() {
        let schema = json!({
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "port": {"type": "integer", "minimum": 1, "maximum": 9},
                "unit": {"enum": ["second", "minute"]},
                "list": {"type": "array", "minItems": 1, "items": {"type": "object", "oneOf": [
                    {"required": ["a"]}, {"required": ["b"]}]}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        });
        let check = |value: Value, expected: &[&str]| assert_eq!(violations(&schema, &value, false), expected);
        check(json!({"name": "x", "port": 9, "unit": "minute", "list": [{"a": 1}], "labels": {"l": "v"}}), &[]);
        check(json!({"port": "x"}), &["name: is missing", "port: \"x\" is not a whole number"]);
        check(json!({"name": "X", "port": 10}), &["name: \"X\" does not match ^[a-z]+$", "port: 10 is more than 9"]);
        check(json!({"name": "x", "Ports": 1}), &["Ports: there is no such field; do you mean port?"]);
        check(json!({"name": "x", "unit": "day"}), &["unit: \"day\" is none of \"second\", \"minute\""]);
        check(
            json!({"name": "x", "list": [{"a": 1, "b": 1}], "labels": {"l": 1}}),
            &["labels.l: 1 is not text", "list[0]: 2 of the 2 forms that it may have fit"],
        );
        check(json!([]), &["the whole: [] is not a map"]);
    }
}
