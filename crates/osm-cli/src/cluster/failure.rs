//! What went wrong between this command and a cluster: what, where, and what to do.

use std::error::Error;
use std::io;

use kube::config::KubeconfigError;
use kube::core::Status;
use osm_local::Failure;

use super::Place;

/// Makes the failure of a request.
pub(crate) trait Failing {
    /// What failed, in the words of a person at a terminal.
    fn failing(&self, doing: &str, error: &kube::Error) -> anyhow::Error;
}

impl Failing for Place {
    fn failing(&self, doing: &str, error: &kube::Error) -> anyhow::Error {
        explained(self, doing, error).into()
    }
}

fn explained(place: &Place, doing: &str, error: &kube::Error) -> Failure {
    let see = format!("check that the cluster is up and that {} leads to it: kubectl cluster-info", place.in_words());
    if let kube::Error::Api(status) = error {
        return refused(place, doing, status);
    }
    let server = &place.server;
    let message = match cause(error) {
        Some(Cause::Refused) => format!("{doing}: no cluster answers at {server}: connection refused"),
        Some(Cause::TimedOut) => format!("{doing}: no cluster answers at {server} in time"),
        Some(Cause::Certificate(said)) => {
            let hint = format!("the certificate authority of {} does not fit this cluster", place.in_words());
            return Failure { message: format!("{doing}: {server} cannot be trusted: {said}"), hint };
        }
        None => format!("{doing}: {server}: {}", deepest(error)),
    };
    Failure { message, hint: see }
}

fn refused(place: &Place, doing: &str, status: &Status) -> Failure {
    let said = status.message.trim_end_matches('.');
    let (message, hint) = match status.code {
        401 => (
            format!("{doing}: {} does not know you", place.server),
            format!("log in again: the credentials of {} have run out or are wrong", place.in_words()),
        ),
        403 => (
            format!("{doing}: not allowed: {said}"),
            "ask whoever runs the cluster for this right; installing a mesh needs the role cluster-admin or its like"
                .to_owned(),
        ),
        404 => (
            format!("{doing}: not found: {said}"),
            "see what there is: osm mesh list, kubectl get namespaces".to_owned(),
        ),
        409 => (format!("{doing}: {said}"), "somebody else changed it at the same time; try again".to_owned()),
        422 => (
            format!("{doing}: the cluster refuses it: {said}"),
            "see what is applied: the same command with --dry-run".to_owned(),
        ),
        _ => (format!("{doing}: {said}"), "see how the cluster is: kubectl get --raw '/readyz?verbose'".to_owned()),
    };
    Failure { message, hint }
}

impl Place {
    fn in_words(&self) -> String {
        if self.context.is_empty() { "your kubeconfig".into() } else { format!("context {}", self.context) }
    }
}

/// No kubeconfig, or none that can be used.
pub(super) fn no_kubeconfig(error: &KubeconfigError) -> Failure {
    let hint = "name one: --kubeconfig FILE, or the environment variable KUBECONFIG; --context NAME chooses in it";
    let message = match error {
        KubeconfigError::ReadConfig(why, path) => {
            format!("there is no way to a cluster: {} cannot be read: {why}", path.display())
        }
        _ => format!("there is no way to a cluster: {error}"),
    };
    Failure { message, hint: hint.into() }
}

enum Cause {
    Refused,
    TimedOut,
    Certificate(String),
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let found = next?;
        next = found.source();
        Some(found)
    })
}

fn cause(error: &kube::Error) -> Option<Cause> {
    for error in chain(error) {
        let text = error.to_string();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return Some(Cause::Refused),
                io::ErrorKind::TimedOut => return Some(Cause::TimedOut),
                _ => {}
            }
        }
        if text.contains("invalid peer certificate") {
            return Some(Cause::Certificate(text));
        }
        if text.contains("deadline has elapsed") || text.contains("timed out") {
            return Some(Cause::TimedOut);
        }
    }
    None
}

fn deepest(error: &kube::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { server: "https://10.0.0.1:6443".into(), context: "lab".into() }
    }

    fn of_status(code: u16, message: &str) -> Failure {
        let status = Status { code, message: message.into(), ..Status::default() };
        explained(&place(), "applying ClusterRole osm", &kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn every_refusal_says_what_where_and_what_to_do() {
        let check = |code, said: &str, message: &str, hint: &str| {
            let failure = of_status(code, said);
            assert_eq!(failure.message, message);
            assert!(failure.hint.contains(hint), "{}", failure.hint);
        };
        check(403, "no.", "applying ClusterRole osm: not allowed: no", "cluster-admin");
        check(401, "", "applying ClusterRole osm: https://10.0.0.1:6443 does not know you", "context lab");
        check(404, "no such kind", "applying ClusterRole osm: not found: no such kind", "osm mesh list");
        check(422, "bad", "applying ClusterRole osm: the cluster refuses it: bad", "--dry-run");
        check(500, "etcd is gone", "applying ClusterRole osm: etcd is gone", "readyz");
    }

    #[test]
    fn nobody_at_home_is_told_with_the_address() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = explained(&place(), "looking for meshes", &kube::Error::Service(Box::new(refused)));
        let expected = "looking for meshes: no cluster answers at https://10.0.0.1:6443: connection refused";
        assert_eq!(failure.message, expected);
        assert!(failure.hint.contains("context lab leads to it"));
    }
}
