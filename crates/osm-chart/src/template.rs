//! Reads templates: the part of Go's `text/template` that the chart uses, which is text, pipelines, `if`, `with`,
//! `range`, `define` and the trimming of white space.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ChartError;

/// One file, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template {
    /// What the file itself says.
    pub(crate) nodes: Vec<Node>,
    /// What it defines for others to include.
    pub(crate) definitions: BTreeMap<String, Vec<Node>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Text(String),
    Output(Expression),
    Block { kind: BlockKind, arms: Vec<Arm>, otherwise: Vec<Node> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    If,
    /// As `If`, and the value is the dot inside.
    With,
    /// Once for each item, which is the dot inside.
    Range,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arm {
    pub(crate) condition: Expression,
    pub(crate) body: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expression {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) term: Term,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// `.a.b`, from the dot.
    Dot(Vec<String>),
    /// `$.a.b`, from the outermost dot.
    Root(Vec<String>),
    Literal(Value),
    Call(String, Vec<Term>),
}

/// Reads one file of the chart.
pub(crate) fn parse(file: &str, text: &str) -> Result<Template, ChartError> {
    let mut parser = Parser { file, pieces: pieces(file, text)?.into(), definitions: BTreeMap::new() };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::OfFile => Ok(Template { nodes, definitions: parser.definitions }),
        End::Else(line, _) | End::Block(line) => Err(error(file, line, "nothing is open that this could end")),
    }
}

enum Piece {
    Text(String),
    Action(usize, String),
}

/// What ended a list of nodes.
enum End {
    OfFile,
    Block(usize),
    /// With what follows the word.
    Else(usize, String),
}

struct Parser<'a> {
    file: &'a str,
    pieces: std::collections::VecDeque<Piece>,
    definitions: BTreeMap<String, Vec<Node>>,
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), ChartError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.pop_front() {
            let (line, action) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(line, action) => (line, action),
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
            match word {
                "if" => nodes.push(self.block(BlockKind::If, line, rest)?),
                "with" => nodes.push(self.block(BlockKind::With, line, rest)?),
                "range" => nodes.push(self.block(BlockKind::Range, line, rest)?),
                "define" => {
                    let name = rest.trim().trim_matches('"').to_owned();
                    let body = self.until_end(line)?;
                    self.definitions.insert(name, body);
                }
                "else" => return Ok((nodes, End::Else(line, rest.trim().to_owned()))),
                "end" => return Ok((nodes, End::Block(line))),
                _ => nodes.push(Node::Output(self.expression(line, &action)?)),
            }
        }
        Ok((nodes, End::OfFile))
    }

    fn block(&mut self, kind: BlockKind, line: usize, condition: &str) -> Result<Node, ChartError> {
        let mut arms = Vec::new();
        let mut condition = self.expression(line, condition)?;
        loop {
            let (body, end) = self.nodes()?;
            arms.push(Arm { condition, body });
            match end {
                End::Block(_) => return Ok(Node::Block { kind, arms, otherwise: Vec::new() }),
                End::OfFile => return Err(error(self.file, line, "this is never ended")),
                End::Else(_, rest) if rest.is_empty() => {
                    let otherwise = self.until_end(line)?;
                    return Ok(Node::Block { kind, arms, otherwise });
                }
                End::Else(line, rest) => match rest.strip_prefix("if ") {
                    Some(next) if kind == BlockKind::If => condition = self.expression(line, next)?,
                    Some(_) | None => return Err(error(self.file, line, &format!("cannot read \"else {rest}\""))),
                },
            }
        }
    }

    fn until_end(&mut self, line: usize) -> Result<Vec<Node>, ChartError> {
        match self.nodes()? {
            (body, End::Block(_)) => Ok(body),
            (_, End::OfFile | End::Else(..)) => Err(error(self.file, line, "this is never ended")),
        }
    }

    fn expression(&self, line: usize, text: &str) -> Result<Expression, ChartError> {
        let wrong = |message: String| error(self.file, line, &message);
        let tokens = tokens(text).map_err(wrong)?;
        let mut rest = tokens.as_slice();
        let term = pipeline(&mut rest).map_err(wrong)?;
        if rest.is_empty() {
            Ok(Expression { file: self.file.to_owned(), line, term })
        } else {
            Err(wrong(format!("cannot read {text:?}")))
        }
    }
}

fn error(file: &str, line: usize, message: &str) -> ChartError {
    ChartError::Template { file: file.to_owned(), line, message: message.to_owned() }
}

/// Text and actions in turn, white space trimmed, comments left out.
fn pieces(file: &str, text: &str) -> Result<Vec<Piece>, ChartError> {
    let (mut pieces, mut rest, mut line, mut trim) = (Vec::new(), text, 1, false);
    while let Some(start) = rest.find("{{") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        line += before.matches('\n').count();
        let end = after.find("}}").ok_or_else(|| error(file, line, "an action is never ended"))?;
        let action = &after[..end];
        let (trims_before, action) = match action.strip_prefix("- ") {
            Some(action) => (true, action),
            None => (false, action),
        };
        let (trims_after, action) = match action.strip_suffix(" -") {
            Some(action) => (true, action),
            None => (false, action),
        };
        let before = if trim { before.trim_start() } else { before };
        let before = if trims_before { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if !action.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(line, action.trim().to_owned()));
        }
        line += action.matches('\n').count();
        (rest, trim) = (&after[end + 2..], trims_after);
    }
    let last = if trim { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(last.to_owned()));
    Ok(pieces)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Pipe,
    Open,
    Close,
    Literal(Value),
    Path(Term),
    Word(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '|' | '(' | ')' => {
                tokens.push(match first {
                    '|' => Token::Pipe,
                    '(' => Token::Open,
                    _ => Token::Close,
                });
                1
            }
            '"' => {
                let end = rest[1..].find('"').ok_or_else(|| format!("a quote is never ended: {rest}"))? + 2;
                let quoted = serde_json::from_str(&rest[..end]).map_err(|_| format!("cannot read {}", &rest[..end]))?;
                tokens.push(Token::Literal(quoted));
                end
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "|()\"".contains(c)).unwrap_or(rest.len());
                tokens.push(word(&rest[..end])?);
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn word(word: &str) -> Result<Token, String> {
    let path = |path: &str| path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if let Some(fields) = word.strip_prefix('.') {
        return Ok(Token::Path(Term::Dot(path(fields))));
    }
    if let Some(fields) = word.strip_prefix('$') {
        // `$name` is a variable, which nothing here needs.
        return if fields.is_empty() || fields.starts_with('.') {
            Ok(Token::Path(Term::Root(path(fields))))
        } else {
            Err(format!("variables such as {word} are not read here; render this chart with helm"))
        };
    }
    if word == "true" || word == "false" {
        return Ok(Token::Literal(Value::Bool(word == "true")));
    }
    match word.parse::<i64>() {
        Ok(number) => Ok(Token::Literal(number.into())),
        Err(_) => Ok(Token::Word(word.to_owned())),
    }
}

/// `a b | c d`: the result of each command is the last argument of the next.
fn pipeline(rest: &mut &[Token]) -> Result<Term, String> {
    let mut piped = None;
    loop {
        piped = Some(command(rest, piped)?);
        match rest.first() {
            Some(Token::Pipe) => *rest = &rest[1..],
            _ => return piped.ok_or_else(|| "an empty action".to_owned()),
        }
    }
}

fn command(rest: &mut &[Token], piped: Option<Term>) -> Result<Term, String> {
    let Some(Token::Word(name)) = rest.first() else {
        let term = operand(rest)?;
        return if piped.is_none() { Ok(term) } else { Err("only a function can follow a |".to_owned()) };
    };
    *rest = &rest[1..];
    let mut arguments = Vec::new();
    while !matches!(rest.first(), None | Some(Token::Pipe | Token::Close)) {
        arguments.push(operand(rest)?);
    }
    arguments.extend(piped);
    Ok(Term::Call(name.clone(), arguments))
}

fn operand(rest: &mut &[Token]) -> Result<Term, String> {
    let (first, after) = rest.split_first().ok_or("something is missing")?;
    *rest = after;
    match first {
        Token::Literal(value) => Ok(Term::Literal(value.clone())),
        Token::Path(term) => Ok(term.clone()),
        Token::Word(name) => Ok(Term::Call(name.clone(), Vec::new())),
        Token::Open => {
            let term = pipeline(rest)?;
            match rest.split_first() {
                Some((Token::Close, after)) => {
                    *rest = after;
                    Ok(term)
                }
                Some(_) | None => Err("a parenthesis is never closed".to_owned()),
            }
        }
        Token::Pipe | Token::Close => Err("something is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        parse("t.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_pipeline_gives_its_value_to_the_next_function_last() {
        let template = parse("t.yaml", "{{ .a.b | default (printf \"%s\" $.c) | quote }}").unwrap();
        let field = |name: &str| name.to_owned();
        let printf = Term::Call("printf".into(), vec![Term::Literal("%s".into()), Term::Root(vec![field("c")])]);
        let default = Term::Call("default".into(), vec![printf, Term::Dot(vec![field("a"), field("b")])]);
        let term = Term::Call("quote".into(), vec![default]);
        let output = Node::Output(Expression { file: "t.yaml".into(), line: 1, term });
        assert_eq!(template.nodes, [output, Node::Text(String::new())]);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        assert_eq!(failure("a\n{{ if .x }}"), "t.yaml of the chart, line 2: this is never ended");
        assert_eq!(failure("{{ end }}"), "t.yaml of the chart, line 1: nothing is open that this could end");
        assert!(failure("{{ $x }}").contains("render this chart with helm"));
        assert!(failure("{{ .a | .b }}").contains("only a function can follow a |"));
        assert!(failure("{{ (quote .a }}").contains("a parenthesis is never closed"));
        assert!(failure("{{ .a").contains("an action is never ended"));
        assert!(failure("{{ quote \"a }}").contains("a quote is never ended"));
    }
}
