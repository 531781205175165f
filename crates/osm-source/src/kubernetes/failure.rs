//! What a watch that failed means, in words for the one who can mend it.

use kube::Error;
use kube::runtime::watcher;
use osm_api::{Kind, Problem, Reason};

use super::kinds::{is_custom, plural};
use super::watch::Failed;

/// An answer of 404 is believed when it has come so often: an API server that starts may not know every kind yet.
const NOT_SERVED_BELIEVED_AFTER: u32 = 4;

/// One failure alone is a connection that was closed; nobody need hear of it.
const SAID_AFTER: u32 = 2;

/// What a failure comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// What to say, if anything.
    pub(super) problem: Option<Problem>,
    /// The cluster has no such kind, so that nothing of it exists.
    pub(super) is_not_served: bool,
}

/// What it means that the watch of `kind` failed.
pub(super) fn failure(kind: Kind, failed: &Failed) -> Failure {
    let code = code(&failed.error);
    let is_not_served = is_custom(kind) && code == Some(404) && failed.failures >= NOT_SERVED_BELIEVED_AFTER;
    let of = format!("{} {}", kind.api_version(), plural(kind));
    let problem = match code {
        _ if failed.failures < SAID_AFTER => return Failure { problem: None, is_not_served },
        Some(404) => Problem::new(kind, Reason::Missing, format!("the cluster does not serve {of}"))
            .with_hint("install the mesh's CustomResourceDefinitions; they are looked for again"),
        Some(401 | 403) => Problem::new(kind, Reason::Refused, format!("{of} cannot be read: {}", said(&failed.error)))
            .with_hint("let the controller's service account get, list and watch them; it is tried again"),
        Some(_) | None => {
            Problem::new(kind, Reason::Missing, format!("{of} cannot be watched: {}", said(&failed.error)))
                .with_hint("what was known still counts; it is tried again")
        }
    };
    Failure { problem: Some(problem), is_not_served }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            Error::Api(status) => Some(status.code),
            _ => None,
        },
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// The API server's own words, or else the innermost cause: the layers above it only repeat each other.
fn said(error: &watcher::Error) -> String {
    match error {
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::InitialListFailed(Error::Api(status))
        | watcher::Error::WatchStartFailed(Error::Api(status))
        | watcher::Error::WatchFailed(Error::Api(status)) => status.message.clone(),
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => {
            let mut innermost: &(dyn std::error::Error + 'static) = cause;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            innermost.to_string()
        }
        watcher::Error::NoResourceVersion => "an object without a resource version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answered(code: u16, failures: u32) -> Failed {
        let status = Status { code, message: "in its words".to_owned(), ..Status::default() };
        Failed { error: watcher::Error::InitialListFailed(Error::Api(status.boxed())), failures }
    }

    #[test]
    fn a_kind_is_believed_not_to_be_served_only_after_several_answers_and_never_one_of_kubernetes_itself() {
        assert!(!failure(Kind::TrafficTarget, &answered(404, 3)).is_not_served);
        assert!(failure(Kind::TrafficTarget, &answered(404, 4)).is_not_served);
        assert!(!failure(Kind::TrafficTarget, &answered(503, 9)).is_not_served);
        assert!(!failure(Kind::Pod, &answered(404, 9)).is_not_served);
    }

    #[test]
    fn what_lasts_is_said_in_the_same_words_each_time() {
        assert_eq!(failure(Kind::Pod, &answered(500, 1)).problem, None);
        let problem = failure(Kind::Pod, &answered(403, 2)).problem.unwrap();
        assert_eq!(Some(&problem), failure(Kind::Pod, &answered(403, 7)).problem.as_ref());
        assert!(problem.to_string().starts_with("Pod: v1 pods cannot be read: in its words; let the"), "{problem}");
    }
}
