//! Problems where their owners look: each becomes an Event on its object, once. `kubectl describe` then shows it.
//!
//! An Event's name comes from what it says, so that replicas and restarts do not repeat each other.

use std::time::Duration;

use kube::api::PostParams;
use kube::{Api, Client, Error};
use osm_api::{Kind, ObjectKey, Problem, k8s};
use osm_runtime::clock;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::event;

/// Problems that may wait to be written. What is beyond is in the log and in `/debug/problems`.
pub(crate) const PROBLEMS_QUEUED_MAX: usize = 256;

/// Between two Events: a mesh full of mistakes must not keep the API server busy.
const INTERVAL: Duration = Duration::from_millis(200);

/// Writes down each problem that comes, until `stop`. What cannot be written is not tried again.
pub(crate) async fn run(
    client: Client,
    mut problems: Receiver<Problem>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let problem = tokio::select! {
            problem = problems.recv() => problem,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(problem) = problem else {
            stop.cancelled().await;
            return Ok(());
        };
        let Some(event) = event(&problem) else { continue };
        let events: Api<k8s::Event> =
            Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or_default());
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => tracing::debug!(subject = problem.subject, %error, "no Event about a problem"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The Event about a problem, if it is one of an object.
fn event(problem: &Problem) -> Option<k8s::Event> {
    let key = subject(&problem.subject)?;
    let words = event::cut(&words(problem));
    let name = event::name_by_content(&key.name, (&problem.subject, &words));
    let about = k8s::ObjectReference {
        api_version: Some(key.kind.api_version().to_owned()),
        kind: Some(key.kind.name().to_owned()),
        name: Some(key.name),
        namespace: Some(key.namespace).filter(|namespace| !namespace.is_empty()),
        ..Default::default()
    };
    Some(event::warning(about, name, format!("{:?}", problem.reason), words, clock::now()))
}

/// A problem in words, without the object, which the Event names itself.
fn words(problem: &Problem) -> String {
    let without = Problem { origin: None, subject: String::new(), ..problem.clone() };
    without.to_string()
}

/// The object that a problem's subject names.
fn subject(subject: &str) -> Option<ObjectKey> {
    let (kind, name) = subject.split_once(' ')?;
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    match (name.split_once('/'), kind.is_namespaced()) {
        (Some((namespace, name)), true) => Some(ObjectKey::new(kind, namespace, name)),
        (None, false) => Some(ObjectKey::new(kind, "", name)),
        (Some(_), false) | (None, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_api::Reason;

    fn problem(subject: &str) -> Problem {
        Problem::new(subject, Reason::Missing, "no such service").with_field("spec.backend").with_hint("make it")
    }

    #[test]
    fn an_event_is_on_the_object_and_has_the_same_name_for_the_same_words() {
        let event = event(&problem("TrafficTarget shop/g")).unwrap();
        let object = event.involved_object.clone();
        assert_eq!((object.kind.as_deref(), object.namespace.as_deref()), (Some("TrafficTarget"), Some("shop")));
        assert_eq!(event.message.as_deref(), Some("spec.backend: no such service; make it"));
        assert_eq!(event.metadata.name, super::event(&problem("TrafficTarget shop/g")).unwrap().metadata.name);
        let other = problem("TrafficTarget shop/g").with_hint("something else");
        assert_ne!(event.metadata.name, super::event(&other).unwrap().metadata.name);
    }

    #[test]
    fn what_names_no_object_has_no_event() {
        for subject in ["", "Pod", "Pod web", "Namespace a/b", "Gadget a/b"] {
            assert!(event(&problem(subject)).is_none(), "{subject}");
        }
        assert_eq!(event(&problem("Namespace shop")).unwrap().metadata.namespace.as_deref(), Some("default"));
    }
}
