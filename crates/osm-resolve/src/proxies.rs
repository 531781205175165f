//! The class of each proxy: who its pod is, and the ports on which services reach it.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::{Reason, k8s};
use osm_model::{InboundPort, PodName, Protocol, ProxyClass, ServiceName};

use crate::pods::{MeshedPod, Pods};
use crate::report::{Finding, Report};
use crate::services::{PortDraft, SIDECAR_PORTS, ServiceDraft, Target, port_number};

/// What one pod's port is used for.
struct Use<'d> {
    protocol: Protocol,
    service: &'d ServiceName,
}

/// The class of each pod with a sidecar.
pub(crate) fn classes(
    pods: &Pods<'_>,
    drafts: &BTreeMap<ServiceName, ServiceDraft<'_>>,
    report: &mut Report<'_>,
) -> BTreeMap<PodName, ProxyClass> {
    let mut uses: BTreeMap<&PodName, BTreeMap<u16, Use<'_>>> = BTreeMap::new();
    for (service, draft) in drafts {
        for port in draft.ports.values() {
            // One problem for each port, however many pods have it.
            let mut finding = None;
            for pod in &draft.pods {
                let used = uses.entry(&pod.name).or_default();
                if let Err(found) = take_port(used, pod, service, port) {
                    finding.get_or_insert(found);
                }
            }
            if let Some(finding) = finding {
                report.add(&draft.key, finding);
            }
        }
    }
    let class = |pod: &MeshedPod<'_>| {
        let used = uses.remove(&pod.name).unwrap_or_default();
        let inbound = used.into_iter().map(|(port, used)| InboundPort { port, protocol: used.protocol });
        (pod.name.clone(), ProxyClass { identity: pod.identity.clone(), inbound: inbound.collect::<BTreeSet<_>>() })
    };
    pods.meshed().map(class).collect()
}

/// The pods' ports behind one port of a service.
pub(crate) fn targets(draft: &ServiceDraft<'_>, port: &PortDraft<'_>) -> BTreeSet<u16> {
    match port.target {
        Target::Number(number) => BTreeSet::from([number]),
        Target::Name(name) => {
            let ports = draft.pods.iter().filter_map(|pod| named_port(pod.object, name));
            ports.filter(|port| !SIDECAR_PORTS.contains(port)).collect()
        }
    }
}

/// Takes the pod's port for the service, unless a service before it (by name) speaks something else there.
fn take_port<'d>(
    used: &mut BTreeMap<u16, Use<'d>>,
    pod: &MeshedPod<'_>,
    service: &'d ServiceName,
    port: &PortDraft<'_>,
) -> Result<(), Finding> {
    let field = format!("{}.targetPort", port.field);
    let number = match port.target {
        Target::Number(number) => number,
        Target::Name(name) => named_port(pod.object, name).ok_or_else(|| {
            let message = format!("no container of Pod {} has a port of the name {name:?}", pod.name);
            Finding::new(&field, Reason::Missing, message).hint("name the port in spec.containers[].ports of the pod")
        })?,
    };
    if SIDECAR_PORTS.contains(&number) {
        let message = format!("{number} of Pod {} is a port of the sidecar; not served", pod.name);
        return Err(Finding::new(field, Reason::Refused, message).hint("let the program listen on another port"));
    }
    let first = used.entry(number).or_insert(Use { protocol: port.protocol, service });
    if first.protocol.is_http() == port.protocol.is_http() {
        return Ok(());
    }
    let message = format!(
        "port {number} of Pod {} is served as {} for Service {} already, so not as {}",
        pod.name,
        word(first.protocol),
        first.service,
        word(port.protocol)
    );
    Err(Finding::new(field, Reason::Conflict, message).hint("give both services' ports one appProtocol"))
}

fn named_port(pod: &k8s::Pod, name: &str) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    // Init containers too: native sidecars are among them.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let is_tcp = |port: &k8s::ContainerPort| port.protocol.as_deref().unwrap_or("TCP") == "TCP";
    let port = ports.find(|port| port.name.as_deref() == Some(name) && is_tcp(port))?;
    port_number(port.container_port)
}

fn word(protocol: Protocol) -> &'static str {
    if protocol.is_http() { "HTTP" } else { "TCP" }
}
