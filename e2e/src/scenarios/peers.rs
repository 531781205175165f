//! Peers know a pod before it counts as ready, and nobody sends to one that cannot take it.

use anyhow::{Context, Result, bail, ensure};

use super::manifests::{demo_pod, server_pod, service};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, PodStatus, wait_for};

const PEERS_READY: &str = "openservicemesh.io/PeersReady";

/// Pods that come while the client's endpoints are looked at.
const NEWCOMERS: u32 = 5;

/// A new pod is no endpoint of anybody before its sidecar is programmed. That the look would see it is shown by pods that
/// wait for a service that nobody serves, behind a service that publishes pods whatever their state.
pub(super) fn no_endpoint_before_its_inbound(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let eager = service("shop", "eager", "{name: http, port: 80, targetPort: 8080}");
    lab.apply(&eager.replace("spec:\n", "spec:\n  publishNotReadyAddresses: true\n"))?;
    lab.apply(&service("shop", "nobody", "{name: http, port: 80, targetPort: 8080}"))?;
    let (mut looks, mut seen_early) = (0, 0);
    let waits = "openservicemesh.io/wait-for: shop/nobody";
    for (app, annotations, expects_early) in [("server", "", false), ("eager", waits, true)] {
        for number in 0..NEWCOMERS {
            let name = format!("{app}-{number}");
            lab.apply(&newcomer(&name, app, annotations))?;
            let early = look_for(&lab, &name, app, &mut looks)?;
            ensure!(!early || expects_early, "{name} was an endpoint before it was programmed");
            seen_early += u32::from(early);
        }
    }
    ensure!(seen_early == NEWCOMERS, "only {seen_early} of {NEWCOMERS} pods that are there too early were seen");
    Ok(format!("{NEWCOMERS} pods, {looks} looks; all of {NEWCOMERS} that were published too early were seen"))
}

/// Looks until the client has the pod as an endpoint; whether that was before the pod's sidecar was programmed.
fn look_for(lab: &Lab, name: &str, app: &str, looks: &mut u32) -> Result<bool> {
    let full_name = format!("shop/{name}");
    let cluster = format!("shop/{app}|80::");
    wait_for(&format!("the client has {full_name} as an endpoint"), || {
        let status = lab.status()?;
        let pod = status.pods.iter().find(|pod| pod.full_name() == full_name).context("there is no such pod")?;
        let ip = pod.ip.as_ref().context("it has no address yet")?;
        let clusters = lab.pod("shop/client").admin("/clusters")?;
        *looks += 1;
        let is_endpoint = clusters.lines().any(|line| line.starts_with(&format!("{cluster}{ip}:")));
        // After the look at the client: whoever was programmed by then may have been before.
        let is_programmed = lab.pod(&full_name).get("http://127.0.0.1:15904/osm-sidecar/ready").is_ok();
        if is_endpoint { Ok(!is_programmed) } else { bail!("it is none yet; programmed: {is_programmed}") }
    })
}

/// A pod counts as ready when the proxies that reach it know of it, or after a limit; both with the reason.
pub(super) fn ready_when_its_peers_know(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    lab.signal_agent("shop/client", "STOP")?;

    // Without the gate it is ready while its peers do not know of it: that is what the gate is for.
    lab.apply(&newcomer("ungated", "server", "openservicemesh.io/readiness-gate: none"))?;
    lab.wait_ready("shop/ungated")?;

    lab.apply(&newcomer("second", "server", ""))?;
    let waiting = lab.wait_for("shop/second", "held back with the reason", |pod| {
        pod.condition(PEERS_READY).is_some_and(|it| it.status == "False" && it.message.contains("shop/client"))
    })?;
    ensure!(!waiting.ready, "it is ready while its peer does not know of it: {waiting:?}");
    lab.signal_agent("shop/client", "CONT")?;
    let ready = lab.wait_ready("shop/second")?;
    let ip = ready.ip.context("a ready pod has an address")?;
    let clusters = client.admin("/clusters")?;
    ensure!(clusters.contains(&format!("shop/server|80::{ip}:")), "it is ready and its peer does not have it");

    lab.signal_agent("shop/client", "STOP")?;
    lab.apply(&newcomer("third", "server", ""))?;
    let third = lab.wait_ready("shop/third")?;
    let reason = opened(&third)?;
    lab.signal_agent("shop/client", "CONT")?;
    ensure!(reason.starts_with("LimitReached") && reason.contains("shop/client"), "{third:?}");

    lab.apply(
        &demo_pod("shop", "client-2", "client", "serve")
            .replace("serviceAccountName: client-2", "serviceAccountName: client"),
    )?;
    let alone = lab.wait_ready("shop/client-2")?;
    ensure!(opened(&alone)?.starts_with("NoService"), "{alone:?}");
    Ok(format!("after the limit: {reason}"))
}

/// Why the gate of a pod is open: reason and message.
fn opened(pod: &PodStatus) -> Result<String> {
    let condition = pod.condition(PEERS_READY).context("the pod has no condition about its peers")?;
    ensure!(condition.status == "True", "{condition:?}");
    Ok(format!("{}: {}", condition.reason, condition.message))
}

fn newcomer(name: &str, app: &str, annotations: &str) -> String {
    server_pod(name, app, annotations, &format!("serve, --port, '8080', --name, {name}"))
}
