//! One thing that a pod waits for.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Reason;

/// One thing that a pod waits for, or that is not as it should be. Reasons are text here: an agent may be newer than
/// who reads what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Why, for programs.
    #[serde(default)]
    pub reason: String,
    /// What, for people, in one line.
    pub what: String,
    /// Who must act.
    pub owner: String,
    /// What to do.
    #[serde(default)]
    pub advice: String,
    /// Since when.
    pub since: Timestamp,
}

impl Missing {
    /// For this reason.
    pub fn new(reason: Reason, what: impl Into<String>, since: Timestamp) -> Missing {
        Missing {
            reason: reason.code().to_owned(),
            what: one_line(&what.into()),
            owner: reason.owner().name().to_owned(),
            advice: reason.advice().to_owned(),
            since,
        }
    }

    /// The same, with somebody in particular as its owner.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Missing {
        self.owner = owner.into();
        self
    }

    /// Whether it is for this reason.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.code()
    }
}

/// What, why, whose turn it is and what to do, in one line.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { reason, what, owner, advice, since } = self;
        write!(f, "{what} ({reason}, from {owner}, since {since:.0})")?;
        if advice.is_empty() { Ok(()) } else { write!(f, "; {advice}") }
    }
}

/// Programs say several lines; here there is room for one.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_with_all_that_one_needs() {
        let since = Timestamp::from_millisecond(1_900_000_000_123).unwrap();
        let missing = Missing::new(Reason::TokenExpired, "the token\n  expired", since);
        assert_eq!(
            missing.to_string(),
            "the token expired (token-expired, from service-account-token, since 2030-03-17T17:46:40Z); see that the \
             kubelet renews the token, and that the clocks of node and controller agree"
        );
    }

    #[test]
    fn what_an_older_agent_says_is_read() {
        let said = r#"{"what": "x", "owner": "envoy", "since": "2030-03-17T17:46:40Z"}"#;
        let missing: Missing = serde_json::from_str(said).unwrap();
        assert_eq!((missing.reason.as_str(), missing.advice.as_str()), ("", ""));
    }
}
