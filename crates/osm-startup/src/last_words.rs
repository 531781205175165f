//! The last words of a container of ours: one line that programs can read, where the kubelet and the runner find it.

use std::fmt;

use crate::Reason;
use crate::missing::one_line;

/// What a container of ours says of itself before it ends: `error[port-in-use]: listening on ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Why.
    pub reason: Reason,
    /// In words.
    pub what: String,
}

impl LastWords {
    /// Puts several lines into one.
    pub fn new(reason: Reason, what: &str) -> LastWords {
        LastWords { reason, what: one_line(what) }
    }

    /// The last such line of a text that may hold anything else.
    pub fn find(text: &str) -> Option<LastWords> {
        text.lines().rev().find_map(|line| {
            let rest = line.trim().strip_prefix("error[").or_else(|| line.trim().strip_prefix("warning["))?;
            let (code, what) = rest.split_once("]: ")?;
            Some(LastWords { reason: Reason::of_code(code)?, what: what.to_owned() })
        })
    }

    fn is_warning(&self) -> bool {
        self.reason == Reason::HoldUnavailable
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning() { "warning" } else { "error" };
        write!(f, "{kind}[{}]: {}", self.reason, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_found_again_among_other_lines() {
        for reason in Reason::ALL {
            let said = LastWords::new(*reason, "it is\nso");
            let text = format!("a line\n{said}\nanother: line\n");
            assert_eq!(LastWords::find(&text), Some(LastWords { reason: *reason, what: "it is so".into() }));
        }
        assert_eq!(LastWords::find("error: no code\nerror[no-such-code]: x\n"), None);
    }
}
