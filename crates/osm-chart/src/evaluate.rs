//! Carries templates out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ChartError;
use crate::functions;
use crate::template::{Arm, BlockKind, Expression, Node, Term};

/// How deep templates may include each other; the chart's own go three deep.
const INCLUSION_LIMIT: usize = 32;

/// What a template is carried out with.
pub(crate) struct Scope<'a> {
    /// The outermost dot.
    pub(crate) root: &'a Value,
    /// What all files define.
    pub(crate) definitions: &'a BTreeMap<String, Vec<Node>>,
}

impl Scope<'_> {
    /// The text that a file comes to.
    pub(crate) fn render(&self, nodes: &[Node]) -> Result<String, ChartError> {
        let mut text = String::new();
        self.write(nodes, self.root, 0, &mut text)?;
        Ok(text)
    }

    fn write(&self, nodes: &[Node], dot: &Value, depth: usize, text: &mut String) -> Result<(), ChartError> {
        for node in nodes {
            match node {
                Node::Text(written) => text.push_str(written),
                Node::Output(expression) => {
                    text.push_str(&functions::printed(&self.value(expression, dot, depth)?));
                }
                Node::Block { kind, arms, otherwise } => match self.taken(arms, dot, depth)? {
                    None => self.write(otherwise, dot, depth, text)?,
                    Some((value, arm)) => match kind {
                        BlockKind::If => self.write(&arm.body, dot, depth, text)?,
                        BlockKind::With => self.write(&arm.body, &value, depth, text)?,
                        BlockKind::Range => {
                            for item in items(&value) {
                                self.write(&arm.body, item, depth, text)?;
                            }
                        }
                    },
                },
            }
        }
        Ok(())
    }

    /// The first arm whose condition holds, with the condition's value.
    fn taken<'a>(&self, arms: &'a [Arm], dot: &Value, depth: usize) -> Result<Option<(Value, &'a Arm)>, ChartError> {
        for arm in arms {
            let value = self.value(&arm.condition, dot, depth)?;
            if functions::is_true(&value) {
                return Ok(Some((value, arm)));
            }
        }
        Ok(None)
    }

    fn value(&self, expression: &Expression, dot: &Value, depth: usize) -> Result<Value, ChartError> {
        self.term(&expression.term, dot, depth).map_err(|failure| match failure {
            Failure::Here(message) => {
                ChartError::Template { file: expression.file.clone(), line: expression.line, message }
            }
            Failure::Inside(error) => error,
        })
    }

    fn term(&self, term: &Term, dot: &Value, depth: usize) -> Result<Value, Failure> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Dot(path) => field(dot, path),
            Term::Root(path) => field(self.root, path),
            Term::Call(name, arguments) => {
                let values: Result<Vec<Value>, Failure> =
                    arguments.iter().map(|argument| self.term(argument, dot, depth)).collect();
                let values = values?;
                if name == "include" { self.include(&values, depth) } else { Ok(functions::call(name, &values)?) }
            }
        }
    }

    fn include(&self, arguments: &[Value], depth: usize) -> Result<Value, Failure> {
        let [Value::String(name), dot] = arguments else {
            return Err("include takes the name of a definition and a dot".to_owned().into());
        };
        let nodes = self.definitions.get(name).ok_or_else(|| format!("nothing defines {name:?}"))?;
        if depth == INCLUSION_LIMIT {
            return Err(format!("{name:?} includes itself").into());
        }
        let mut text = String::new();
        // As in Go, `$` is what the definition was given.
        let scope = Scope { root: dot, definitions: self.definitions };
        scope.write(nodes, dot, depth + 1, &mut text).map_err(Failure::Inside)?;
        Ok(Value::String(text))
    }
}

enum Failure {
    /// Of this expression.
    Here(String),
    /// Of a template that this expression includes.
    Inside(ChartError),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Here(message)
    }
}

/// As in Go: a missing last field is nothing, a field of nothing is an error.
fn field(value: &Value, path: &[String]) -> Result<Value, Failure> {
    let mut found = value;
    for (index, name) in path.iter().enumerate() {
        found = match found {
            Value::Object(fields) => fields.get(name).unwrap_or(&Value::Null),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(format!("there is no .{}", path[..=index].join(".")).into());
            }
        };
    }
    Ok(found.clone())
}

fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::parse;

    fn rendered(text: &str) -> Result<String, String> {
        let root = json!({"a": {"b": "x", "n": 3, "none": [], "list": ["p", "q"], "map": {"k": "v"}}});
        let template = parse("t", text).map_err(|error| error.to_string())?;
        let scope = Scope { root: &root, definitions: &template.definitions };
        scope.render(&template.nodes).map_err(|error| error.to_string())
    }

    #[test]
    fn text_blocks_and_pipelines_come_to_what_go_makes_of_them() {
        let check = |text: &str, expected: &str| assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        check("a {{ .a.b }} c", "a x c");
        check("a\n  {{- .a.b -}}\n c", "axc");
        check("{{ .a.n }} {{ .a.b | quote }} {{ .a.list | toJson }}", "3 \"x\" [\"p\",\"q\"]");
        check("{{ if .a.none }}1{{ else if eq .a.b \"x\" }}2{{ else }}3{{ end }}", "2");
        check("{{ with .a.b }}{{ . }}{{ $.a.n }}{{ else }}-{{ end }}", "x3");
        check("{{ with .a.none }}{{ . }}{{ else }}{{ .a.n }}{{ end }}", "3");
        check("{{ range .a.list }}<{{ . }}>{{ end }}", "<p><q>");
        check("{{ .a.missing | default (printf \"%s-%s\" .a.b \"y\") }}", "x-y");
        check("{{ or .a.none .a.b }} {{ and .a.b .a.none | toJson }} {{ not .a.none }}", "x [] true");
        check("m:{{ toYaml .a.map | nindent 2 }}", "m:\n  k: v");
        check("{{/* nothing */}}a", "a");
        check("{{ define \"d\" }}<{{ . }}>{{ end }}{{ include \"d\" .a.b }}", "<x>");
    }

    #[test]
    fn what_fails_says_where() {
        let check = |text: &str, words: &str| {
            let error = rendered(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check("\n{{ .a.z.y }}", "line 2: there is no .a.z.y");
        check("{{ include \"d\" . }}", "nothing defines \"d\"");
        check("{{ define \"d\" }}{{ include \"d\" . }}{{ end }}{{ include \"d\" . }}", "\"d\" includes itself");
        check("{{ lookup .a }}", "the function lookup is not known here");
        check("{{ printf \"%d\" .a.n }}", "printf knows only %s");
    }
}
