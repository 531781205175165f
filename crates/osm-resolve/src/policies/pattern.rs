//! Regular expressions of policies. Envoy reads them with RE2, and refuses a whole port's rules for one that it cannot
//! read. So only what RE2 reads, and reads as the `regex` crate does, is let through: both agree on what it means.

use osm_model::Pattern;
use regex::bytes::RegexBuilder;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassSetItem, Flag, FlagsItemKind, GroupKind, HexLiteralKind, Literal, LiteralKind,
    RepetitionKind, RepetitionRange, Visitor,
};

/// RE2 repeats something no more often (re2/parse.cc, maximum_repeat_count), repetitions of repetitions included.
const REPEAT_LIMIT: u32 = 1000;

/// Single characters in a pattern, each counted as often as it is repeated. What RE2 makes of them stays below the 32768
/// instructions that a sidecar's Envoy is told to take.
const WEIGHT_LIMIT: u32 = 2000;

/// A pattern, or why there is none.
pub(crate) fn read(written: &str) -> Result<Pattern, String> {
    if written.is_empty() {
        return Err("it is empty".to_owned());
    }
    if written.len() > WEIGHT_LIMIT as usize {
        return Err(format!("it is longer than {WEIGHT_LIMIT} bytes"));
    }
    let parsed = ast::parse::Parser::new().parse(written).map_err(|error| error.kind().to_string())?;
    ast::visit(&parsed, Check { written, repeated: vec![1], weight: 0 })?;
    Ok(Pattern(written.to_owned()))
}

/// Whether a whole text fits the pattern, as Envoy would say.
pub(crate) fn fits(pattern: &Pattern, text: &str) -> bool {
    // RE2 knows only ASCII's digits, spaces and word characters, which is what the engine knows without Unicode.
    let whole = format!(r"\A(?:{})\z", pattern.0);
    RegexBuilder::new(&whole).unicode(false).build().is_ok_and(|regex| regex.is_match(text.as_bytes()))
}

/// Walks a pattern and refuses what RE2 does not know, or knows as something else.
struct Check<'p> {
    written: &'p str,
    /// How often what is looked at is repeated, for each repetition that it is in.
    repeated: Vec<u32>,
    weight: u32,
}

impl Check<'_> {
    fn weigh(&mut self) -> Result<(), String> {
        self.weight = self.weight.saturating_add(*self.repeated.last().unwrap_or(&1));
        if self.weight > WEIGHT_LIMIT { Err("it is too large".to_owned()) } else { Ok(()) }
    }

    fn written(&self, span: &ast::Span) -> &str {
        &self.written[span.start.offset..span.end.offset]
    }

    fn refuse<T>(&self, span: &ast::Span) -> Result<T, String> {
        Err(format!("RE2 has no {}", self.written(span)))
    }

    fn check_literal(&self, literal: &Literal) -> Result<(), String> {
        let is_shared = match &literal.kind {
            LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Superfluous | LiteralKind::Special(_) => true,
            // Above, one engine takes the number for a byte and the other for a character.
            LiteralKind::HexFixed(HexLiteralKind::X) | LiteralKind::HexBrace(HexLiteralKind::X) => literal.c.is_ascii(),
            LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) | LiteralKind::Octal => false,
        };
        if is_shared { Ok(()) } else { self.refuse(&literal.span) }
    }

    fn check_flags(&self, flags: &ast::Flags) -> Result<(), String> {
        let is_shared = |item: &FlagsItemKind| match item {
            FlagsItemKind::Negation => true,
            FlagsItemKind::Flag(flag) => match flag {
                Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed => true,
                Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace => false,
            },
        };
        if flags.items.iter().all(|item| is_shared(&item.kind)) { Ok(()) } else { self.refuse(&flags.span) }
    }

    /// RE2 takes a first `-` or `]` for the start of a range, the other engine for itself.
    fn check_start_of_class(&self, span: &ast::Span) -> Result<(), String> {
        let inside = &self.written(span)[1..];
        let inside = inside.strip_prefix('^').unwrap_or(inside);
        if inside.starts_with("--") || inside.starts_with("]-") {
            return Err(format!("a range that starts with - or ] is not supported: {}", self.written(span)));
        }
        Ok(())
    }

    /// How often the operator repeats at most; once if there is no most.
    fn check_repetition(&self, repetition: &ast::Repetition) -> Result<u32, String> {
        if let Ast::Repetition(_) = &*repetition.ast {
            return Err(format!("RE2 has no {} after a repetition", self.written(&repetition.op.span)));
        }
        if self.written(&repetition.op.span).contains(char::is_whitespace) {
            return self.refuse(&repetition.op.span);
        }
        Ok(match &repetition.op.kind {
            RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 1,
            RepetitionKind::Range(RepetitionRange::Exactly(count) | RepetitionRange::AtLeast(count)) => *count,
            RepetitionKind::Range(RepetitionRange::Bounded(_, most)) => *most,
        })
    }
}

impl Visitor for Check<'_> {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Empty(_) | Ast::Alternation(_) | Ast::Concat(_) => Ok(()),
            Ast::Flags(set) => self.check_flags(&set.flags),
            Ast::Literal(literal) => self.check_literal(literal).and_then(|()| self.weigh()),
            Ast::Dot(_) | Ast::ClassPerl(_) => self.weigh(),
            Ast::ClassBracketed(class) => self.check_start_of_class(&class.span).and_then(|()| self.weigh()),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => self.weigh(),
                AssertionKind::WordBoundaryStart
                | AssertionKind::WordBoundaryEnd
                | AssertionKind::WordBoundaryStartAngle
                | AssertionKind::WordBoundaryEndAngle
                | AssertionKind::WordBoundaryStartHalf
                | AssertionKind::WordBoundaryEndHalf => self.refuse(&assertion.span),
            },
            Ast::ClassUnicode(class) => Err(format!("{} is not supported", self.written(&class.span))),
            Ast::Repetition(repetition) => {
                let outer = *self.repeated.last().unwrap_or(&1);
                let repeated = outer.saturating_mul(self.check_repetition(repetition)?.max(1));
                if repeated > REPEAT_LIMIT {
                    return Err(format!("it repeats something more than {REPEAT_LIMIT} times"));
                }
                self.repeated.push(repeated);
                Ok(())
            }
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureIndex(_) => Ok(()),
                GroupKind::CaptureName { name, .. } => {
                    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                    if name.name.bytes().all(is_word) { Ok(()) } else { self.refuse(&name.span) }
                }
                GroupKind::NonCapturing(flags) => self.check_flags(flags),
            },
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), String> {
        if let Ast::Repetition(_) = ast {
            self.repeated.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        self.weigh()?;
        match item {
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) | ClassSetItem::Union(_) => Ok(()),
            ClassSetItem::Literal(literal) => self.check_class_literal(literal),
            ClassSetItem::Range(range) => {
                self.check_class_literal(&range.start)?;
                self.check_class_literal(&range.end)
            }
            ClassSetItem::Unicode(class) => Err(format!("{} is not supported", self.written(&class.span))),
            ClassSetItem::Bracketed(class) => {
                Err(format!("RE2 has no class in a class: {}", self.written(&class.span)))
            }
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ast::ClassSetBinaryOp) -> Result<(), String> {
        self.refuse(&op.span)
    }
}

impl Check<'_> {
    fn check_class_literal(&self, literal: &Literal) -> Result<(), String> {
        if !literal.c.is_ascii() {
            return Err(format!("{} in a class is not supported", self.written(&literal.span)));
        }
        self.check_literal(literal)
    }
}

#[cfg(test)]
mod tests;
