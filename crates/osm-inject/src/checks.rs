//! What forbids a pod to join the mesh, and what its user should know before it does.

use osm_api::{Problem, Reason, k8s};

use crate::containers::{ADMIN_PORT, SIDECAR_VOLUME, TOKEN_VOLUME, is_ours};
use crate::{InjectPolicy, Shape};

/// What forbids it.
pub(crate) fn refusals(subject: &str, spec: &k8s::PodSpec, policy: &InjectPolicy, is_injected: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (field, container) in of_user(spec, is_injected) {
        problems.extend(taken_name(subject, &field, container));
        problems.extend(taken_mount(subject, &field, container));
        let uid = container.security_context.as_ref().and_then(|context| context.run_as_user);
        problems.extend(taken_uid(subject, &format!("{field}.securityContext"), uid, policy));
    }
    let uid = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    problems.extend(taken_uid(subject, "spec.securityContext", uid, policy));
    if !is_injected {
        problems.extend(taken_volumes(subject, spec));
    }
    problems
}

/// What will not work as its user may expect.
pub(crate) fn warnings(
    subject: &str,
    spec: &k8s::PodSpec,
    shape: Shape,
    unmeshed_inits: &[String],
    policy: &InjectPolicy,
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |field: &str, reason: Reason, message: String, hint: &str| {
        warnings.push(Problem::new(subject, reason, message).with_field(field).with_hint(hint));
    };
    let is_unmeshed = |container: &k8s::Container| unmeshed_inits.contains(&container.name);
    let mut own_inits = spec.init_containers.iter().flatten().filter(|container| !is_ours(container));
    if shape == Shape::Init && own_inits.any(|container| !is_unmeshed(container)) {
        let message = "init containers start before the sidecar, so their connections wait and never come through";
        warn("spec.initContainers", Reason::Unsupported, message.to_owned(), OWN_INITS_HINT);
    }
    if let (Shape::Init, Some(restart @ ("Never" | "OnFailure"))) = (shape, spec.restart_policy.as_deref()) {
        let message = format!("with restartPolicy {restart} the pod does not complete, because the sidecar runs on");
        warn("spec.restartPolicy", Reason::Unsupported, message, NATIVE_HINT);
    }
    if spec.share_process_namespace == Some(true) {
        let message = "root in any container of the pod can stop the sidecar".to_owned();
        warn("spec.shareProcessNamespace", Reason::Unsupported, message, "leave it out");
    }
    for (field, container) in of_user(spec, true) {
        if is_unmeshed(container) {
            let message = "it runs before redirection is in place, so what it sends goes past the mesh, in plain text";
            let hint = "leave it out of openservicemesh.io/unmeshed-init-containers to have it meshed";
            warn(&field, Reason::Unsupported, message.to_owned(), hint);
        }
        if shape == Shape::Init && has_http_post_start(container) {
            let message = "the kubelet calls this hook once, through the sidecar, which may not listen yet";
            warn(&format!("{field}.lifecycle.postStart"), Reason::Unsupported, message.to_owned(), NATIVE_HINT);
        }
        for (index, port) in container.ports.iter().flatten().enumerate() {
            if is_port_of_sidecar(port.container_port, policy) {
                let field = format!("{field}.ports[{index}].containerPort");
                let message = format!("the sidecar listens on port {}", port.container_port);
                warn(&field, Reason::Conflict, message, "let the application listen on another port");
            }
        }
    }
    warnings
}

const NATIVE_HINT: &str = "the shape native has no such limit; it needs Kubernetes 1.29";
const OWN_INITS_HINT: &str = "the shape native (Kubernetes 1.29) has no such limit; or name them in \
                              openservicemesh.io/unmeshed-init-containers to run outside of the mesh";

/// The user's containers, each with its place.
fn of_user(spec: &k8s::PodSpec, is_injected: bool) -> impl Iterator<Item = (String, &k8s::Container)> {
    let inits = spec.init_containers.iter().flatten().enumerate();
    let inits = inits.map(|(index, container)| (format!("spec.initContainers[{index}]"), container));
    let apps = spec.containers.iter().enumerate();
    let apps = apps.map(|(index, container)| (format!("spec.containers[{index}]"), container));
    inits.chain(apps).filter(move |(_, container)| !(is_injected && is_ours(container)))
}

fn has_http_post_start(container: &k8s::Container) -> bool {
    let hook = container.lifecycle.as_ref().and_then(|hooks| hooks.post_start.as_ref());
    hook.is_some_and(|hook| hook.http_get.is_some())
}

fn taken_name(subject: &str, field: &str, container: &k8s::Container) -> Option<Problem> {
    is_ours(container).then(|| {
        Problem::new(subject, Reason::Conflict, format!("the sidecar's container is called {}", container.name))
            .with_field(format!("{field}.name"))
            .with_hint("give the container another name")
    })
}

/// Keys, and sockets that stop Envoy, lie in these volumes.
fn taken_mount(subject: &str, field: &str, container: &k8s::Container) -> Option<Problem> {
    let mounts = container.volume_mounts.iter().flatten().enumerate();
    let (index, mount) = mounts.into_iter().find(|(_, mount)| is_our_volume(&mount.name))?;
    let message = format!("the volume {} is for the sidecar alone", mount.name);
    let field = format!("{field}.volumeMounts[{index}].name");
    Some(Problem::new(subject, Reason::Refused, message).with_field(field).with_hint("give your volume another name"))
}

fn taken_volumes(subject: &str, spec: &k8s::PodSpec) -> Vec<Problem> {
    let volumes = spec.volumes.iter().flatten().enumerate().filter(|(_, volume)| is_our_volume(&volume.name));
    let problem = |(index, volume): (usize, &k8s::Volume)| {
        Problem::new(subject, Reason::Conflict, format!("the sidecar's volume is called {}", volume.name))
            .with_field(format!("spec.volumes[{index}].name"))
            .with_hint("give the volume another name")
    };
    volumes.map(problem).collect()
}

fn is_our_volume(name: &str) -> bool {
    [SIDECAR_VOLUME, TOKEN_VOLUME].contains(&name)
}

/// Whoever runs as the proxy's user goes past the proxy.
fn taken_uid(subject: &str, field: &str, uid: Option<i64>, policy: &InjectPolicy) -> Option<Problem> {
    let taken = policy.redirect.proxy_uid;
    (uid == Some(i64::from(taken))).then(|| {
        let message = format!("user id {taken} is the proxy's: whoever has it goes past the mesh");
        Problem::new(subject, Reason::Refused, message)
            .with_field(format!("{field}.runAsUser"))
            .with_hint("choose another user id")
    })
}

fn is_port_of_sidecar(port: i32, policy: &InjectPolicy) -> bool {
    let redirect = &policy.redirect;
    let mut ours =
        [redirect.outbound_port, redirect.inbound_port].into_iter().chain(redirect.bypass_inbound_ports.0.clone());
    port == ADMIN_PORT || ours.any(|ours| i32::from(ours.get()) == port)
}
