//! The whole of injection.

use std::collections::BTreeMap;

use osm_api::{INIT_CONTAINER, INJECTED, PROXY_UUID, Problem, Reason, SIDECAR_CONTAINER, k8s};
use osm_redirect::Redirect;
use rand::{Rng, RngExt};

use crate::annotations::Wishes;
use crate::decision::{Decision, decide};
use crate::shape::{Choice, choose};
use crate::wish::Hold;
use crate::{InjectPolicy, Shape, checks, containers, life, probes};

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Injection {
    /// It joins the mesh.
    Injected {
        /// The pod with its sidecar.
        pod: Box<k8s::Pod>,
        /// How its containers are ordered.
        shape: Shape,
        /// Why in this order.
        why: String,
        /// What will not work as its user may expect.
        warnings: Vec<Problem>,
    },
    /// It stays as it is.
    Skipped {
        /// Why.
        why: String,
        /// Whether its user asked for the mesh and does not get it.
        is_unmet: bool,
    },
}

/// Decides whether `pod`, about to be made in `namespace`, joins the mesh, and adds what it needs for that.
///
/// A pod that was injected before stays as it is, except that containers which somebody else has put before ours
/// since are put behind them again, and that probes which came since go to the agent too.
///
/// # Errors
/// Everything that forbids the pod to start, so that its user can mend all of it at once.
pub fn inject(
    pod: &k8s::Pod,
    namespace: &k8s::Namespace,
    policy: &InjectPolicy,
    rng: &mut impl Rng,
) -> Result<Injection, Vec<Problem>> {
    let has_metrics = match decide(pod, namespace, policy)? {
        Decision::Skip { why, is_unmet } => return Ok(Injection::Skipped { why, is_unmet }),
        Decision::Inject { has_metrics } => has_metrics,
    };
    let subject = subject(pod, namespace);
    let Some(spec) = &pod.spec else {
        return Err(vec![Problem::new(subject, Reason::Missing, "a pod needs a spec").with_field("spec")]);
    };
    let is_injected = Shape::of_injected(pod).is_some();
    let mut problems = checks::refusals(&subject, spec, policy, is_injected);
    let wishes = match Wishes::read(&subject, pod, namespace, policy) {
        Ok(wishes) => wishes,
        Err(wrong) => {
            problems.extend(wrong);
            return Err(problems);
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut pod = pod.clone();
    let (shape, why, mut warnings) = match Shape::of_injected(&pod) {
        Some((shape, why)) => (shape, why, Vec::new()),
        None => {
            let choice = choose(&subject, spec, wishes.shape.as_ref(), &wishes.hold, policy)?;
            add(&mut pod, &choice, &wishes, policy, rng);
            if has_metrics {
                containers::announce_metrics(&mut pod);
            }
            (choice.shape, choice.why, choice.warnings)
        }
    };
    let spec = pod.spec.as_mut().expect("it was there above");
    warnings.extend(checks::warnings(&subject, spec, shape, &wishes.unmeshed_inits, policy));
    order(spec, shape, &wishes.unmeshed_inits);
    probes::forward(spec);
    Ok(Injection::Injected { pod: Box::new(pod), shape, why, warnings })
}

/// Adds containers, volumes, label and annotations; [`order`] puts the containers in their places.
fn add(pod: &mut k8s::Pod, choice: &Choice, wishes: &Wishes, policy: &InjectPolicy, rng: &mut impl Rng) {
    let Choice { shape, why, hold, warnings: _ } = choice;
    let redirect = Redirect { hold: *hold != Hold::None, ..wishes.redirect.clone() };
    let spec = pod.spec.as_mut().expect("the caller looked");
    let first_of_user = spec.containers.first().map(|container| container.name.clone());
    if *shape != Shape::Merged {
        spec.init_containers.get_or_insert_default().push(containers::init(policy, &redirect));
    }
    let mut sidecar = containers::sidecar(policy, choice, &redirect, wishes);
    if *hold == Hold::None {
        // Who wants no connection to wait wants it to wait nowhere.
        sidecar.env.get_or_insert_default().push(containers::parks_nothing());
    }
    sidecar.env.get_or_insert_default().extend(life::variables(spec, *shape));
    if wishes.gate {
        life::add_gate(spec);
    }
    match shape {
        Shape::Init => spec.containers.push(sidecar),
        Shape::Native | Shape::Merged => spec.init_containers.get_or_insert_default().push(sidecar),
    }
    spec.volumes.get_or_insert_default().extend(containers::volumes());

    let labels = pod.metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(PROXY_UUID.to_owned(), uuid_v4(rng));
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(INJECTED.to_owned(), format!("{shape}: {why}"));
    // `kubectl logs` and `kubectl exec` would take the first container, which is the sidecar now.
    if let (Shape::Init, Some(name)) = (shape, first_of_user) {
        annotations.entry("kubectl.kubernetes.io/default-container".to_owned()).or_insert(name);
    }
}

/// Puts our containers in their places, whoever moved them. The order of the others stays, but for those that are to run
/// before redirection is in place.
fn order(spec: &mut k8s::PodSpec, shape: Shape, unmeshed_inits: &[String]) {
    let inits = spec.init_containers.get_or_insert_default();
    if shape.is_native_sidecar() {
        move_to_front(inits, SIDECAR_CONTAINER);
        for sidecar in inits.iter_mut().filter(|container| container.name == SIDECAR_CONTAINER) {
            // Without it the pod would wait for ever for the sidecar to end.
            sidecar.restart_policy = Some("Always".to_owned());
        }
    } else {
        move_to_front(&mut spec.containers, SIDECAR_CONTAINER);
    }
    move_to_front(inits, INIT_CONTAINER);
    // Stable: among themselves they stay as the user wrote them.
    inits.sort_by_key(|container| !unmeshed_inits.contains(&container.name));
}

fn move_to_front(containers: &mut [k8s::Container], name: &str) {
    if let Some(at) = containers.iter().position(|container| container.name == name) {
        containers[..=at].rotate_right(1);
    }
}

/// How problems call the pod. A pod of a Deployment has no name yet, only its beginning.
pub(crate) fn subject(pod: &k8s::Pod, namespace: &k8s::Namespace) -> String {
    let namespace = namespace.metadata.name.as_deref().unwrap_or_default();
    let beginning = || pod.metadata.generate_name.as_ref().map(|beginning| format!("{beginning}*"));
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).or_else(beginning);
    format!("Pod {namespace}/{}", name.unwrap_or_default())
}

/// A random UUID (RFC 9562, version 4).
fn uuid_v4(rng: &mut impl Rng) -> String {
    let random: u128 = rng.random();
    let bits = random & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | (0x4000_u128 << 64) | (0x8000_u128 << 48);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
