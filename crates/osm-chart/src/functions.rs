//! The functions that templates call.

use serde_json::Value;

/// Calls one function.
pub(crate) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    Ok(match (name, arguments) {
        ("quote", [value]) => Value::String(Value::String(printed(value)).to_string()),
        ("default", [fallback, value]) => if is_true(value) { value } else { fallback }.clone(),
        ("eq", [left, right]) => (left == right).into(),
        ("ne", [left, right]) => (left != right).into(),
        ("not", [value]) => (!is_true(value)).into(),
        ("and", [.., last]) => arguments.iter().find(|value| !is_true(value)).unwrap_or(last).clone(),
        ("or", [.., last]) => arguments.iter().find(|value| is_true(value)).unwrap_or(last).clone(),
        ("toJson", [value]) => value.to_string().into(),
        ("toYaml", [value]) => {
            serde_saphyr::to_string(value).map_err(|error| error.to_string())?.trim_end().to_owned().into()
        }
        ("indent", [Value::Number(width), Value::String(text)]) => indented(width, text)?.into(),
        ("nindent", [Value::Number(width), Value::String(text)]) => format!("\n{}", indented(width, text)?).into(),
        ("printf", [Value::String(format), values @ ..]) => formatted(format, values)?.into(),
        ("quote" | "default" | "eq" | "ne" | "not" | "and" | "or" | "toJson" | "toYaml", _)
        | ("indent" | "nindent" | "printf", _) => {
            return Err(format!("{name} does not take these arguments: {}", Value::from(arguments)));
        }
        _ => return Err(format!("the function {name} is not known here; render this chart with helm")),
    })
}

/// What counts as true in Go's templates.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A value as it is written into the text.
pub(crate) fn printed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn indented(width: &serde_json::Number, text: &str) -> Result<String, String> {
    let width = width.as_u64().and_then(|width| usize::try_from(width).ok()).filter(|width| *width <= 64);
    let pad = " ".repeat(width.ok_or("lines are indented by 0 to 64")?);
    Ok(text.lines().map(|line| format!("{pad}{line}")).collect::<Vec<_>>().join("\n"))
}

fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let pieces: Vec<&str> = format.split("%s").collect();
    if pieces.iter().any(|piece| piece.contains('%')) || pieces.len() != values.len() + 1 {
        return Err(format!("printf knows only %s, one for each argument: {format:?}"));
    }
    let ends = values.iter().map(printed).chain([String::new()]);
    Ok(pieces.into_iter().zip(ends).map(|(piece, value)| piece.to_owned() + &value).collect())
}
