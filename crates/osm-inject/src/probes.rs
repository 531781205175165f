//! The kubelet's probes and hooks of the user's containers: sent to the agent, which carries them out beside the
//! application.
//!
//! Commands need no network and stay. So does what is sent to another host, and to a port whose name nobody has.

use osm_api::{SIDECAR_CONTAINER, k8s};
use osm_redirect::{ForwardedProbe, HttpProbe, PROBES_VARIABLE, ProbeAction, ProbeKind, read_probes, write_probes};

use crate::containers::is_ours;

/// How long an answer may take unless the probe says otherwise; the kubelet's own default.
const TIMEOUT_S: u32 = 1;

/// A hook may take as long as the pod's grace period; the kubelet sees to that.
const HOOK_TIMEOUT_S: u32 = 86_400;

/// Sends every probe over the network to the agent. Those that were sent there before stay as they are.
pub(crate) fn forward(spec: &mut k8s::PodSpec) {
    let mut forwarded = Vec::new();
    let inits = spec.init_containers.iter_mut().flatten();
    for container in inits.chain(&mut spec.containers).filter(|container| !is_ours(container)) {
        for kind in ProbeKind::ALL {
            forwarded.extend(forward_one(container, kind));
        }
    }
    if forwarded.is_empty() {
        return;
    }
    let mut containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    let Some(sidecar) = containers.find(|container| container.name == SIDECAR_CONTAINER) else { return };
    let environment = sidecar.env.get_or_insert_default();
    let written = environment.iter().find(|variable| variable.name == PROBES_VARIABLE);
    let mut probes =
        read_probes(written.and_then(|variable| variable.value.as_deref()).unwrap_or_default()).unwrap_or_default();
    let is_same = |a: &ForwardedProbe, b: &ForwardedProbe| a.container == b.container && a.kind == b.kind;
    probes.retain(|old| !forwarded.iter().any(|new| is_same(old, new)));
    probes.extend(forwarded);
    environment.retain(|variable| variable.name != PROBES_VARIABLE);
    environment.push(k8s::EnvVar {
        name: PROBES_VARIABLE.to_owned(),
        value: Some(write_probes(&probes)),
        value_from: None,
    });
}

fn forward_one(container: &mut k8s::Container, kind: ProbeKind) -> Option<ForwardedProbe> {
    let name = container.name.clone();
    let ports = container.ports.clone().unwrap_or_default();
    let probe = match kind {
        ProbeKind::Liveness => &mut container.liveness_probe,
        ProbeKind::Readiness => &mut container.readiness_probe,
        ProbeKind::Startup => &mut container.startup_probe,
        ProbeKind::PostStart => {
            return forward_hook(container.lifecycle.as_mut()?.post_start.as_mut()?, kind, name, &ports);
        }
        ProbeKind::PreStop => {
            return forward_hook(container.lifecycle.as_mut()?.pre_stop.as_mut()?, kind, name, &ports);
        }
    };
    let probe = probe.as_mut()?;
    let action = action(probe, &ports)?;
    if probe.http_get.as_ref().is_some_and(|get| is_forwarded(get, kind, &name)) {
        return None;
    }
    probe.http_get = Some(to_agent(kind, &name));
    probe.tcp_socket = None;
    probe.grpc = None;
    let timeout_seconds = probe.timeout_seconds.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0);
    Some(ForwardedProbe { container: name, kind, timeout_seconds: timeout_seconds.unwrap_or(TIMEOUT_S), action })
}

fn forward_hook(
    hook: &mut k8s::LifecycleHandler,
    kind: ProbeKind,
    container: String,
    ports: &[k8s::ContainerPort],
) -> Option<ForwardedProbe> {
    let get = hook.http_get.as_mut()?;
    if is_forwarded(get, kind, &container) {
        return None;
    }
    let action = ProbeAction::Http(http(get, ports)?);
    *get = to_agent(kind, &container);
    Some(ForwardedProbe { container, kind, timeout_seconds: HOOK_TIMEOUT_S, action })
}

fn to_agent(kind: ProbeKind, container: &str) -> k8s::HTTPGetAction {
    k8s::HTTPGetAction {
        path: Some(kind.path(container)),
        port: k8s::IntOrString::Int(i32::from(kind.port())),
        ..k8s::HTTPGetAction::default()
    }
}

fn is_forwarded(get: &k8s::HTTPGetAction, kind: ProbeKind, container: &str) -> bool {
    get.port == k8s::IntOrString::Int(i32::from(kind.port()))
        && get.path.as_deref() == Some(kind.path(container).as_str())
}

fn action(probe: &k8s::Probe, ports: &[k8s::ContainerPort]) -> Option<ProbeAction> {
    if let Some(get) = probe.http_get.as_ref().filter(|get| !is_elsewhere(&get.host)) {
        return Some(ProbeAction::Http(http(get, ports)?));
    }
    if let Some(socket) = probe.tcp_socket.as_ref().filter(|socket| !is_elsewhere(&socket.host)) {
        return Some(ProbeAction::Tcp { port: number(&socket.port, ports)? });
    }
    let grpc = probe.grpc.as_ref()?;
    let port = u16::try_from(grpc.port).ok()?;
    Some(ProbeAction::Grpc { port, service: grpc.service.clone().unwrap_or_default() })
}

fn is_elsewhere(host: &Option<String>) -> bool {
    host.as_ref().is_some_and(|host| !host.is_empty())
}

/// Nothing for another host, and for a port whose name nobody has.
fn http(get: &k8s::HTTPGetAction, ports: &[k8s::ContainerPort]) -> Option<HttpProbe> {
    let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    (!is_elsewhere(&get.host)).then_some(HttpProbe {
        port: number(&get.port, ports)?,
        path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
        is_tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        headers: headers.collect(),
    })
}

fn number(port: &k8s::IntOrString, ports: &[k8s::ContainerPort]) -> Option<u16> {
    let number = match port {
        k8s::IntOrString::Int(number) => *number,
        k8s::IntOrString::String(name) => ports.iter().find(|port| port.name.as_ref() == Some(name))?.container_port,
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}
