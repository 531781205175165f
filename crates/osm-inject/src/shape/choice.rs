//! Which shape a pod gets, and why: what is asked for, else what it needs, as far as its nodes can.

use osm_api::{HOLD, Problem, Reason, STARTUP, k8s};

use super::Shape;
use crate::annotations::field;
use crate::wish::{Asker, Hold, Wish};
use crate::{InjectPolicy, NativeSidecars};

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) shape: Shape,
    /// Why this one.
    pub(crate) why: String,
    pub(crate) hold: Hold,
    /// What somebody asked for and does not get.
    pub(crate) warnings: Vec<Problem>,
}

/// A shape, and why.
type Reasoned = (Shape, String);

/// What is known of the pod.
struct Chooser<'a> {
    subject: &'a str,
    spec: &'a k8s::PodSpec,
    policy: &'a InjectPolicy,
    warnings: Vec<Problem>,
}

/// Decides. What the pod itself asks for and cannot get forbids it to start; what its namespace or the mesh ask for gives
/// way, with a warning.
pub(crate) fn choose(
    subject: &str,
    spec: &k8s::PodSpec,
    shape: Option<&Wish<Shape>>,
    hold: &Wish<Hold>,
    policy: &InjectPolicy,
) -> Result<Choice, Vec<Problem>> {
    let mut chooser = Chooser { subject, spec, policy, warnings: Vec::new() };
    let wish = match shape {
        Some(wish) => chooser.possible(wish)?,
        None => None,
    };
    let (hold_what, shape) = chooser.held(wish, hold)?;
    let (shape, why) = shape.unwrap_or_else(|| chooser.suitable());
    Ok(Choice { shape, why, hold: hold_what, warnings: chooser.warnings })
}

impl Chooser<'_> {
    fn missing_native(&self) -> Option<&str> {
        match &self.policy.native_sidecars {
            NativeSidecars::Available => None,
            NativeSidecars::Missing { why } => Some(why),
        }
    }

    /// The wish, if it can be had.
    fn possible<'w>(&mut self, wish: &'w Wish<Shape>) -> Result<Option<&'w Wish<Shape>>, Vec<Problem>> {
        let (message, hint) = match (wish.what, self.missing_native()) {
            (Shape::Native | Shape::Merged, Some(why)) => (
                format!("there are no native sidecars: {why}"),
                "write init, or leave it out; or keep the pod to newer nodes",
            ),
            (Shape::Merged, None) if self.policy.privileged_init => {
                let message =
                    "the mesh has enablePrivilegedInitContainer, and a sidecar must not be privileged".to_owned();
                (message, "write native or init, or leave it out")
            }
            (Shape::Merged, None) if is_token_for_root_alone(self.spec) => {
                let message = "all of its containers run as user 0 by their specs, so the kubelet lets nobody else read \
                               the sidecar's token";
                (message.to_owned(), "leave out runAsUser in one of them, or set fsGroup; or write native")
            }
            (Shape::Init | Shape::Native | Shape::Merged, _) => return Ok(Some(wish)),
        };
        match wish.asker {
            Asker::Pod => Err(vec![self.problem(STARTUP, Reason::Unsupported, message, hint)]),
            Asker::Namespace | Asker::MeshConfig => {
                let message = format!("{} asks for the shape {}, but {message}", wish.place, wish.what);
                self.warnings.push(self.problem(
                    STARTUP,
                    Reason::Unsupported,
                    message,
                    "the pod gets the shape that suits it",
                ));
                Ok(None)
            }
        }
    }

    /// What waits, and the shape with its reason unless any will do.
    fn held(
        &mut self,
        shape: Option<&Wish<Shape>>,
        hold: &Wish<Hold>,
    ) -> Result<(Hold, Option<Reasoned>), Vec<Problem>> {
        let asked = shape.map(|wish| (wish.what, format!("{} asks for it", wish.place)));
        if hold.what != Hold::Container || shape.is_some_and(|wish| wish.what.is_native_sidecar()) {
            return Ok((hold.what, asked));
        }
        let (reason, message, hint) = match (self.missing_native(), shape) {
            (Some(why), _) => (
                Reason::Unsupported,
                format!("there are no native sidecars: {why}"),
                "write kernel: then connections wait; or keep the pod to newer nodes",
            ),
            (None, Some(wish)) if wish.asker >= hold.asker => (
                Reason::Conflict,
                format!(
                    "{} asks for the shape init, in which the application starts together with the sidecar",
                    wish.place
                ),
                "write kernel: then connections wait; or ask for native or merged",
            ),
            (None, _) => {
                return Ok((
                    Hold::Container,
                    Some((Shape::Native, format!("{} holds the application back", hold.place))),
                ));
            }
        };
        let message = format!("the application cannot be held back: {message}");
        match hold.asker {
            Asker::Pod => Err(vec![self.problem(HOLD, reason, message, hint)]),
            Asker::Namespace | Asker::MeshConfig => {
                let message = format!("{message}; {} asks for it", hold.place);
                self.warnings.push(self.problem(HOLD, reason, message, "connections wait instead"));
                Ok((Hold::Kernel, asked))
            }
        }
    }

    /// The quickest shape in which everything of the pod works.
    fn suitable(&self) -> Reasoned {
        let need = match self.spec.restart_policy.as_deref() {
            Some(restart @ ("Never" | "OnFailure")) => Some(format!("restartPolicy {restart}")),
            _ if self.spec.init_containers.as_ref().is_some_and(|inits| !inits.is_empty()) => {
                Some("init containers of its own".to_owned())
            }
            _ => None,
        };
        match (need, self.missing_native()) {
            (Some(need), None) => (Shape::Native, need),
            (Some(need), Some(why)) => (Shape::Init, format!("{need}, but there are no native sidecars: {why}")),
            (None, _) => (Shape::Init, "restartPolicy Always, no init containers of its own".to_owned()),
        }
    }

    fn problem(&self, key: &str, reason: Reason, message: String, hint: &str) -> Problem {
        Problem::new(self.subject, reason, message).with_field(field(key)).with_hint(hint)
    }
}

/// The kubelet gives tokens to the one user that all containers name, if they all name the same. In this shape the
/// sidecar names 0 and then is somebody else. A group of the volumes may read them all the same.
fn is_token_for_root_alone(spec: &k8s::PodSpec) -> bool {
    let whole = spec.security_context.clone().unwrap_or_default();
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| {
        let own = container.security_context.as_ref().and_then(|security| security.run_as_user);
        own.or(whole.run_as_user)
    });
    whole.fs_group.is_none() && users.all(|user| user == Some(0))
}
