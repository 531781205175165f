//! The kubelet's probes of the user's containers: sent to the agent, which carries them out beside the application.
//!
//! Commands need no network and stay. So does what is sent to another host, and to a port whose name nobody has.

use osm_api::{SIDECAR_CONTAINER, k8s};
use osm_redirect::{ForwardedProbe, HttpProbe, PROBES_VARIABLE, ProbeAction, ProbeKind, read_probes, write_probes};

use crate::containers::is_ours;

/// How long an answer may take unless the probe says otherwise; the kubelet's own default.
const TIMEOUT_S: u32 = 1;

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
    };
    let probe = probe.as_mut()?;
    let action = action(probe, &ports)?;
    if is_forwarded(probe, kind, &name) {
        return None;
    }
    probe.http_get = Some(k8s::HTTPGetAction {
        path: Some(kind.path(&name)),
        port: k8s::IntOrString::Int(i32::from(kind.port())),
        ..k8s::HTTPGetAction::default()
    });
    probe.tcp_socket = None;
    probe.grpc = None;
    let timeout_seconds = probe.timeout_seconds.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0);
    Some(ForwardedProbe { container: name, kind, timeout_seconds: timeout_seconds.unwrap_or(TIMEOUT_S), action })
}

fn is_forwarded(probe: &k8s::Probe, kind: ProbeKind, container: &str) -> bool {
    probe.http_get.as_ref().is_some_and(|get| {
        get.port == k8s::IntOrString::Int(i32::from(kind.port()))
            && get.path.as_deref() == Some(kind.path(container).as_str())
    })
}

fn action(probe: &k8s::Probe, ports: &[k8s::ContainerPort]) -> Option<ProbeAction> {
    let is_elsewhere = |host: &Option<String>| host.as_ref().is_some_and(|host| !host.is_empty());
    if let Some(get) = probe.http_get.as_ref().filter(|get| !is_elsewhere(&get.host)) {
        let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        return Some(ProbeAction::Http(HttpProbe {
            port: number(&get.port, ports)?,
            path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            is_tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            headers: headers.collect(),
        }));
    }
    if let Some(socket) = probe.tcp_socket.as_ref().filter(|socket| !is_elsewhere(&socket.host)) {
        return Some(ProbeAction::Tcp { port: number(&socket.port, ports)? });
    }
    let grpc = probe.grpc.as_ref()?;
    let port = u16::try_from(grpc.port).ok()?;
    Some(ProbeAction::Grpc { port, service: grpc.service.clone().unwrap_or_default() })
}

fn number(port: &k8s::IntOrString, ports: &[k8s::ContainerPort]) -> Option<u16> {
    let number = match port {
        k8s::IntOrString::Int(number) => *number,
        k8s::IntOrString::String(name) => ports.iter().find(|port| port.name.as_ref() == Some(name))?.container_port,
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}
