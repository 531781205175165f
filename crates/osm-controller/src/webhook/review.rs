//! What the API server asks and how it is answered: AdmissionReview, `admission.k8s.io/v1`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use osm_api::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

const VERSION: &str = "admission.k8s.io/v1";

/// The API server drops warnings once they are longer than 4,096 characters together.
const WARNINGS_MAX: usize = 16;

/// One warning is cut here; longer ones are cut by clients anyway.
const WARNING_CHARS_MAX: usize = 256;

/// One question.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// To be said again in the answer.
    pub(crate) uid: String,
    /// What the object is.
    #[serde(default)]
    pub(crate) kind: ObjectKind,
    /// The object's name; often empty while it is created.
    #[serde(default)]
    pub(crate) name: String,
    /// Where it is; empty for what belongs to no namespace.
    #[serde(default)]
    pub(crate) namespace: String,
    /// What is about to happen.
    pub(crate) operation: Operation,
    /// As it will be; null when it goes.
    #[serde(default)]
    pub(crate) object: Value,
    /// As it is; null when it is new.
    #[serde(default)]
    pub(crate) old_object: Value,
    /// Nothing will come of it, so nothing may come of it here either.
    #[serde(default)]
    pub(crate) dry_run: Option<bool>,
}

/// Group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ObjectKind {
    /// Empty for the core group.
    pub(crate) group: String,
    /// As `v1`.
    pub(crate) version: String,
    /// As `Pod`.
    pub(crate) kind: String,
}

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Operation {
    /// An object comes.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Somebody connects to it.
    Connect,
}

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAReview {
    /// Not JSON, or not of that form.
    #[error("the body is not an AdmissionReview in JSON: {0}")]
    Form(#[from] serde_json::Error),
    /// Another version.
    #[error("{0:?} is not known here; send {VERSION} AdmissionReview")]
    Version(String),
    /// Nothing asked.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// What is changed; only if it is allowed.
    pub(crate) patch: Option<json_patch::Patch>,
    /// Said to whoever sent the object.
    pub(crate) warnings: Vec<String>,
    /// Why it is not allowed.
    pub(crate) refusal: Option<Refusal>,
}

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status that the sender sees: 422 when the object must be mended, 403 when it may not be, 503 to try again.
    pub(crate) code: u16,
    /// What, where and what to do.
    pub(crate) message: String,
}

/// Reads a question.
pub(crate) fn read(body: &[u8]) -> Result<Request, NotAReview> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Review {
        #[serde(default)]
        api_version: String,
        #[serde(default)]
        kind: String,
        request: Option<Request>,
    }
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != VERSION || review.kind != "AdmissionReview" {
        return Err(NotAReview::Version(format!("{} {}", review.api_version, review.kind)));
    }
    review.request.ok_or(NotAReview::NoRequest)
}

impl Request {
    /// Whether nothing will come of it.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }
}

impl Answer {
    /// Allowed, and nothing to say.
    pub(crate) fn allowed() -> Answer {
        Answer::default()
    }

    /// Not allowed.
    pub(crate) fn refused(code: u16, message: impl Into<String>) -> Answer {
        Answer { refusal: Some(Refusal { code, message: message.into() }), ..Answer::default() }
    }

    /// Not allowed because of all of these.
    pub(crate) fn refused_for(code: u16, problems: &[Problem]) -> Answer {
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Answer::refused(code, texts.join("\n"))
    }

    /// The body that the API server reads.
    pub(crate) fn to_review(&self, uid: &str) -> Value {
        let mut response = json!({ "uid": uid, "allowed": self.refusal.is_none() });
        if let Some(Refusal { code, message }) = &self.refusal {
            let reason = match code {
                403 => "Forbidden",
                422 => "Invalid",
                503 => "ServiceUnavailable",
                _ => "InternalError",
            };
            response["status"] = json!({ "code": code, "message": message, "reason": reason, "status": "Failure" });
        }
        if let Some(patch) = self.patch.as_ref().filter(|patch| !patch.0.is_empty()) {
            let patch = serde_json::to_vec(patch).expect("paths and values are JSON");
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(patch).into();
        }
        if !self.warnings.is_empty() {
            let cut = |text: &String| text.chars().take(WARNING_CHARS_MAX).collect::<String>();
            response["warnings"] = self.warnings.iter().take(WARNINGS_MAX).map(cut).collect();
        }
        json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response })
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectKind { group, version, kind } = self;
        if group.is_empty() { write!(f, "{version} {kind}") } else { write!(f, "{group}/{version} {kind}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            assert!(read(&bytes).is_err());
        }

        #[test]
        fn no_json_of_the_right_beginning_makes_reading_panic(uid: String, operation: String, cut in 0..200_usize) {
            let request = json!({ "uid": uid, "operation": operation, "object": { "spec": [] }, "dryRun": null });
            let review = json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "request": request }).to_string();
            let _ = read(review.as_bytes());
            let _ = read(&review.as_bytes()[..cut.min(review.len())]);
        }
    }

    #[test]
    fn what_is_no_question_is_said() {
        for (body, words) in [
            ("", "not an AdmissionReview in JSON"),
            ("[]", "not an AdmissionReview in JSON"),
            ("{}", "send admission.k8s.io/v1"),
            (r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#, "v1beta1"),
            (r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#, "has no request"),
        ] {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn long_warnings_are_cut_between_characters() {
        let answer = Answer { warnings: vec!["ä".repeat(1000); 100], ..Answer::default() };
        let review = answer.to_review("u");
        let warnings = review["response"]["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), WARNINGS_MAX);
        assert_eq!(warnings[0].as_str().unwrap().chars().count(), WARNING_CHARS_MAX);
    }
}
