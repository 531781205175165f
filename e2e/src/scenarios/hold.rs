//! The hold: a connection that the proxy cannot take yet waits instead of being refused.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::manifests::{once_pod, shop};
use super::shapes::SHAPES;
use super::{open, open_shop};
use crate::Choice;
use crate::lab::{Lab, LoadCounts, Pod, PodStatus, wait_for};

/// Pods started together; more only measures how slow two cores are.
const BATCH: u32 = 10;

/// Where a sidecar keeps its last good state.
const LAST_GOOD: &str = "/var/run/osm/agent/last-good.state";

pub(super) fn once_with_hold(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    let mut connect_ms = Vec::new();
    let mut begun = 0;
    while begun < choice.count {
        let batch = BATCH.min(choice.count - begun);
        // All shapes in turn: in one the kubelet's order lets the application start with the sidecar, in others after it.
        let shape_of = |number: u32| SHAPES[number as usize % SHAPES.len()];
        let pods: Vec<(String, &str)> =
            (begun..begun + batch).map(|number| (format!("once-{number}"), shape_of(number))).collect();
        let manifest = |(pod, shape): &(String, &str)| once_pod(pod, &format!("openservicemesh.io/startup: {shape}"));
        let manifests: String = pods.iter().map(manifest).collect();
        // In the shape `init` the sidecar outlives such a pod's work, and `osm` says so; what counts here is the work.
        lab.apply_file("once.yaml", &manifests)?;
        for (pod, shape) in &pods {
            let status = lab.wait_for(&format!("shop/{pod}"), "done", |status| status.exit_code("once").is_some())?;
            let log = lab.logs(&format!("shop/{pod}"), "once")?;
            ensure!(status.exit_code("once") == Some(0), "pod {pod} (shape {shape}) failed: {log}");
            connect_ms.push(number_after(&log, "connect_ms ").with_context(|| format!("pod {pod} said {log}"))?);
        }
        lab.delete(&manifests)?;
        begun += batch;
    }
    connect_ms.sort_unstable();
    Ok(format!(
        "{begun} of {begun} succeeded; connect() took {} ms at the median, {} ms at most",
        connect_ms[connect_ms.len() / 2],
        connect_ms[connect_ms.len() - 1]
    ))
}

pub(super) fn once_without_hold(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    let count = choice.count.min(BATCH);
    let pods: Vec<String> = (0..count).map(|i| format!("once-{i}")).collect();
    let annotations = "openservicemesh.io/hold: none";
    lab.apply(&pods.iter().map(|pod| once_pod(pod, annotations)).collect::<String>())?;
    let mut refused = 0;
    for pod in &pods {
        lab.wait_for(&format!("shop/{pod}"), "over", PodStatus::is_over)?;
        let log = lab.logs(&format!("shop/{pod}"), "once")?;
        refused += u32::from(log.contains("refused"));
    }
    if refused == 0 {
        bail!("none of {count} pods was refused without the hold: the scenario with it proves nothing");
    }
    Ok(format!("{refused} of {count} refused"))
}

pub(super) fn envoy_killed_under_load(choice: &Choice) -> Result<String> {
    kill_under_load(&open_shop(choice)?.pod("shop/client"))
}

/// As where the kubelet is told `--seccomp-default`, or the pod asks for it.
pub(super) fn envoy_killed_behind_a_filter(choice: &Choice) -> Result<String> {
    let filtered = "  securityContext: {seccompProfile: {type: RuntimeDefault}}\n  serviceAccountName: client";
    let lab = open(choice, &shop().replace("  serviceAccountName: client", filtered))?;
    let client = lab.pod("shop/client");
    let status = fs::read_to_string(format!("/proc/{}/status", client.envoy_process()?)).context("looking at Envoy")?;
    ensure!(status.contains("\nSeccomp:\t2\n"), "no filter is in force: {status}");
    kill_under_load(&client)
}

fn kill_under_load(client: &Pod<'_>) -> Result<String> {
    let load = client.load("http://server.shop/", 200, 8)?;
    let mut kills = 0;
    client.wait_for_requests(client.requests()? + 100)?;
    for _ in 0..3 {
        client.kill_envoy()?;
        kills += 1;
    }
    let counts = LoadCounts::of(load)?;
    counts.answered_or_reset(1_000)?;
    let LoadCounts { tried, reset, slowest_ms, .. } = counts;
    let restarts = client.startup()?["envoyRestarts"].as_array().map_or(0, Vec::len);
    ensure!(restarts >= kills, "{kills} kills, but the timeline holds {restarts} restarts");
    Ok(format!("{kills} kills, {tried} connections, 0 refused, {reset} reset in flight, slowest {slowest_ms} ms"))
}

pub(super) fn controller_killed(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    lab.signal("osm-controller", "STOP")?;
    client.get("http://server.shop/").context("with the controller stopped")?;
    client.kill_envoy().context("Envoy is programmed again without the controller")?;
    client.get("http://server.shop/").context("after Envoy was killed with the controller stopped")?;
    lab.signal("osm-controller", "KILL")?;
    let body = super::manifests::service("shop", "late", "{name: http, port: 81, targetPort: 8080}")
        .replace("{app: late}", "{app: server}");
    lab.apply(&body)?;
    wait_for("a service made after the controller came back is reached", || client.get("http://late.shop:81/"))?;
    Ok(String::new())
}

pub(super) fn sidecar_killed_without_controller(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    wait_for("the client's sidecar has kept where the server is", || {
        let server = lab.wait_ready("shop/server")?.ip.context("the server has no address")?;
        client.exec_in("envoy", &["grep", "-q", "-a", "-F", &server, LAST_GOOD])?.success()
    })?;
    lab.signal("osm-controller", "STOP")?;
    lab.signal("osm-sidecar", "KILL")?;
    wait_for("the client's sidecar is programmed from its last good state", || {
        let said = client.get("http://127.0.0.1:15904/osm-sidecar/ready")?;
        ensure!(said.contains("from the last good state"), "it says {said}");
        Ok(())
    })?;
    wait_for("requests are answered again", || client.get("http://server.shop/"))?;
    lab.signal("osm-controller", "KILL")?;
    wait_for("a new controller confirms the state", || {
        let said = client.get("http://127.0.0.1:15904/osm-sidecar/ready")?;
        ensure!(!said.contains("last good"), "it says {said}");
        Ok(())
    })?;
    Ok(String::new())
}

/// The number behind a mark in what a program said.
pub(super) fn number_after(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
