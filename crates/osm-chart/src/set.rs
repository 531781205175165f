//! `--set`, as Helm reads it: `a.b=c,d[0].e=1,f={x,y}`, with a backslash before what is meant as itself.

use serde_json::{Map, Value};

use crate::ChartError;

/// An index beyond this is a typing mistake; a list that long is written in a file.
const INDEX_LIMIT: usize = 1000;

enum Step {
    Key(String),
    Index(usize),
}

/// Lays one `--set` over values.
pub fn apply_set(values: &mut Value, text: &str) -> Result<(), ChartError> {
    let wrong = |message: &str| ChartError::Set { text: text.to_owned(), message: message.to_owned() };
    for assignment in split(text, ',') {
        let parts = split(&assignment, '=');
        let (path, value) = match parts.split_first() {
            Some((path, rest)) if !rest.is_empty() => (path, rest.join("=")),
            Some(_) | None => return Err(wrong("write NAME=VALUE, as in osm.image.tag=v1")),
        };
        let steps = steps(path).ok_or_else(|| wrong("a name looks like osm.imagePullSecrets[0].name"))?;
        put(values, &steps, typed(&value)).map_err(|message| wrong(&message))?;
    }
    Ok(())
}

/// At each `separator` that is neither escaped nor within braces; escapes stay.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut depth, mut escaped) = (vec![String::new()], 0_u32, false);
    for c in text.chars() {
        match c {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == separator && depth == 0 && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in split(path, '.') {
        let (key, mut indices) = match part.split_once('[') {
            Some((key, rest)) => (key, format!("[{rest}")),
            None => (part.as_str(), String::new()),
        };
        if key.is_empty() {
            return None;
        }
        steps.push(Step::Key(unescaped(key)));
        while !indices.is_empty() {
            let (index, rest) = indices.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            indices = rest.to_owned();
        }
    }
    Some(steps)
}

fn put(at: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    match steps {
        [] => {
            *at = value;
            Ok(())
        }
        [Step::Key(key)] if value.is_null() => {
            if let Value::Object(fields) = at {
                fields.remove(key);
            }
            Ok(())
        }
        [Step::Key(key), rest @ ..] => {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let fields = at.as_object_mut().expect("it was made one just now");
            put(fields.entry(key.clone()).or_insert(Value::Null), rest, value)
        }
        [Step::Index(index), rest @ ..] => {
            if *index > INDEX_LIMIT {
                return Err(format!("the index {index} is beyond {INDEX_LIMIT}"));
            }
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let items = at.as_array_mut().expect("it was made one just now");
            if items.len() <= *index {
                items.resize(index + 1, Value::Null);
            }
            put(&mut items[*index], rest, value)
        }
    }
}

fn typed(text: &str) -> Value {
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let items = split(inner, ',');
        let is_empty = items.len() == 1 && items[0].is_empty();
        return if is_empty { Value::Array(Vec::new()) } else { items.iter().map(|item| typed(item)).collect() };
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        // Helm takes what begins with a zero for text: it may be an account number.
        _ if text.len() > 1 && text.starts_with('0') => Value::String(unescaped(text)),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(unescaped(text)), Value::from),
    }
}

fn unescaped(text: &str) -> String {
    let (mut plain, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let mut values = json!({"a": {"b": "old", "kept": 1}});
        apply_set(&mut values, text).unwrap();
        let mut all = json!({"a": {"b": "old", "kept": 1}});
        crate::merge(&mut all, expected);
        assert_eq!(values, all, "{text}");
    }

    #[test]
    fn values_are_set_as_helm_sets_them() {
        check("a.b=new", json!({"a": {"b": "new"}}));
        check("a.b=1,c=true,d=01", json!({"a": {"b": 1}, "c": true, "d": "01"}));
        check("a.b=null", json!({"a": {"b": null}}));
        check("l={x,2},e={}", json!({"l": ["x", 2], "e": []}));
        check("l[1].n=x", json!({"l": [null, {"n": "x"}]}));
        check(r"a\.b/c=x\,y", json!({"a.b/c": "x,y"}));
        check("u=http://h?a=b", json!({"u": "http://h?a=b"}));
        check("a.b=", json!({"a": {"b": ""}}));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, words) in [
            ("a", "write NAME=VALUE"),
            ("=1", "a name looks like"),
            ("a[x]=1", "a name looks like"),
            ("a[9999]=1", "beyond"),
        ] {
            let error = apply_set(&mut json!({}), text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set {text}: ")) && error.contains(words), "{error}");
        }
    }
}
