//! A problem with an object: what, where and what to do. Never fatal; the rest goes on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something wrong with one object, or with a text that should hold one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The file and document that it came from, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The object, as `Pod shop/client`; empty when the text is too broken to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The field, as `spec.containers[0].image`; empty for the whole object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The class of problem.
    pub reason: Reason,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// Where an object was written down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The file's name.
    pub file: String,
    /// The document within the file, from 1.
    pub document: usize,
    /// The line of the file on which the document starts, from 1.
    pub line: usize,
}

/// The classes of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The text is not YAML, or not an object.
    Syntax,
    /// No part of `osm` reads this kind, or this version of it.
    UnknownKind,
    /// A value has the wrong type, or is out of range.
    InvalidField,
    /// A field that the kind does not have.
    UnknownField,
    /// A field or kind that is right, but that this part does not carry out.
    Unsupported,
    /// A second object of one name.
    Duplicate,
    /// Two objects that cannot both hold.
    Conflict,
    /// Something that is named does not exist.
    Missing,
    /// Refused, because it would break a promise of the mesh.
    Refused,
}

impl Problem {
    /// A problem with an object; say where and what to do with the `with_` functions.
    pub fn new(subject: impl ToString, reason: Reason, message: impl Into<String>) -> Problem {
        Problem {
            origin: None,
            subject: subject.to_string(),
            field: String::new(),
            reason,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// The same, about one field.
    pub fn with_field(mut self, field: impl Into<String>) -> Problem {
        self.field = field.into();
        self
    }

    /// The same, with what to do.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = hint.into();
        self
    }

    /// The same, with where it was written down.
    pub fn with_origin(mut self, origin: Option<Origin>) -> Problem {
        self.origin = origin;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {} (line {})", self.file, self.document, self.line)
    }
}
