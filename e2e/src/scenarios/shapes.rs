//! The shapes of pods: init containers of the pod's own, rights that are given up, and a sidecar that ends.

use anyhow::{Context, Result, ensure};

use super::manifests::{IDLE, container_pod, plain_shop, shop, sidecar_settings};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, LoadCounts, wait_for};

/// Every shape.
pub(super) const SHAPES: [&str; 3] = ["init", "native", "merged"];

/// A pod with an init container that asks once, and a container that asks once more.
fn with_own_init(name: &str, annotations: &str, asks: &str) -> String {
    container_pod(
        name,
        annotations,
        &format!(
            "  restartPolicy: Never
  initContainers:
    - {{name: before, image: osm-demo, args: [once, '{asks}']}}
  containers:
    - {{name: main, image: osm-demo, args: [once, 'http://server.shop/']}}
"
        ),
    )
}

pub(super) fn own_init_containers_are_meshed(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &[shop(), plain_shop()].concat())?;
    for pod in ["shop/server", "plain/server"] {
        lab.wait_ready(pod)?;
    }
    // Nobody but the mesh reaches this server, so whoever is answered is in the mesh.
    for shape in ["native", "merged"] {
        let annotations = format!("openservicemesh.io/startup: {shape}");
        lab.apply(&with_own_init(&format!("in-{shape}"), &annotations, "http://server.shop/"))?;
    }
    for shape in ["native", "merged"] {
        let pod = lab.wait_for(&format!("shop/in-{shape}"), "over", |status| status.is_over())?;
        ensure!(pod.exit_code("before") == Some(0), "its own init container failed: {pod:?}");
        ensure!(pod.exit_code("main") == Some(0), "the application failed: {pod:?}");
    }
    // In the shape init there is no sidecar yet, so it waits; nothing of it is refused or gets out.
    let said =
        lab.apply_file("held.yaml", &with_own_init("held", "openservicemesh.io/startup: init", "http://server.shop/"))?;
    ensure!(said.all().contains("never come through"), "nobody was told: {}", said.all());
    // Named, it runs before the redirection, and its user is told what that means.
    let annotations = "openservicemesh.io/startup: init, openservicemesh.io/unmeshed-init-containers: before";
    let said = lab.apply_file("named.yaml", &with_own_init("named", annotations, "http://server.plain/"))?;
    ensure!(said.all().contains("past the mesh, in plain text"), "nobody was told: {}", said.all());
    let named = lab.wait_for("shop/named", "done", |status| status.exit_code("main").is_some())?;
    ensure!(named.exit_code("before") == Some(0), "the unmeshed init container failed: {named:?}");
    ensure!(named.exit_code("main") == Some(0), "the application behind it failed: {named:?}");
    let held = lab.wait_for("shop/held", "there", |_| true)?;
    ensure!(held.phase == "Pending" && held.exit_code("before").is_none(), "it did not wait: {held:?}");
    Ok(String::new())
}

pub(super) fn merged_gives_up_its_rights(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    lab.apply(&sidecar_settings("startup: merged"))?;
    lab.apply(&container_pod("asked-by-mesh", "", IDLE))?;
    let pod = lab.wait_ready("shop/asked-by-mesh")?;
    let why = pod.injected.clone().context("it is not in the mesh")?;
    ensure!(why == "merged: spec.sidecar.startup of the MeshConfig asks for it", "it says {why}");
    ensure!(pod.container("osm-init").is_none(), "there is an osm-init: {pod:?}");
    let pod = lab.pod("shop/asked-by-mesh");
    pod.get("http://server.shop/").context("through the mesh")?;
    let processes = pod.exec_in("envoy", &["pgrep", "-x", "osm-sidecar|envoy"])?.success()?;
    let processes: Vec<&str> = processes.split_whitespace().collect();
    ensure!(processes.len() >= 2 && processes.contains(&"1"), "agent and Envoy are not there: {processes:?}");
    for process in &processes {
        let status = pod.exec_in("envoy", &["cat", &format!("/proc/{process}/status")])?.success()?;
        let field = |name: &str| -> Result<Vec<&str>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("no {name} in {status}"))?.split_whitespace().collect())
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure!(field(set)? == ["0000000000000000"], "process {process} has {set} {:?}", field(set)?);
        }
        for ids in ["Uid", "Gid"] {
            ensure!(field(ids)? == ["1500"; 4], "process {process} has {ids} {:?}", field(ids)?);
        }
        ensure!(field("Groups")?.is_empty(), "process {process} has groups {:?}", field("Groups")?);
        ensure!(field("NoNewPrivs")? == ["1"], "process {process} may get new privileges");
    }
    // Neither the application nor anybody else of the pod has them.
    let app = pod.exec(&["grep", "CapBnd", "/proc/self/status"])?.success()?;
    let bounding = app.split_whitespace().last().and_then(|mask| u64::from_str_radix(mask, 16).ok());
    const NET_ADMIN: u64 = 1 << 12;
    ensure!(bounding.context("the application has no bounding set")? & NET_ADMIN == 0, "the application has {app}");
    Ok(format!("{} processes", processes.len()))
}

/// New connections a second, and for how long; the sidecar is back in about one.
const LOAD: (u32, u32) = (100, 6);

pub(super) fn sidecar_killed_under_load(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let mut figures = Vec::new();
    for shape in SHAPES {
        let name = format!("in-{shape}");
        lab.apply(&container_pod(&name, &format!("openservicemesh.io/startup: {shape}"), IDLE))?;
        let full_name = format!("shop/{name}");
        lab.wait_ready(&full_name)?;
        let client = lab.pod(&full_name);
        wait_for("the server answers", || client.get("http://server.shop/"))?;
        let before = client.requests()?;
        let load = client.load("http://server.shop/", LOAD.0, LOAD.1)?;
        client.wait_for_requests(before + 50)?;
        client.kill_sidecar()?;
        let counts = LoadCounts::of(load)?;
        let LoadCounts { tried, reset, slowest_ms, .. } = counts;
        counts.answered_or_reset(200).with_context(|| format!("shape {shape}"))?;
        let pod = lab.wait_ready(&full_name)?;
        let restarts = |name: &str| pod.container(name).map(|container| container.restarts);
        ensure!(restarts("envoy") == Some(1), "the sidecar was not started again once: {pod:?}");
        ensure!(restarts("main") == Some(0), "the application was restarted: {pod:?}");
        figures.push(format!("{shape}: {tried} connections, {reset} reset in flight, slowest {slowest_ms} ms"));
        lab.delete(&container_pod(&name, "", IDLE))?;
    }
    Ok(figures.join("; "))
}

/// On a real kubelet: the pod's sandbox ends, so its network and the rules are gone, and everything starts anew.
pub(super) fn a_recreated_sandbox_is_meshed(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let pods: Vec<String> = SHAPES.iter().map(|shape| format!("again-{shape}")).collect();
    for (pod, shape) in pods.iter().zip(SHAPES) {
        let asks = "  containers:\n    - {name: main, image: osm-demo, args: [load, 'http://server.shop/', --rate, '20', --seconds, '3600']}\n";
        lab.apply(&container_pod(pod, &format!("openservicemesh.io/startup: {shape}"), asks))?;
    }
    for pod in &pods {
        let full_name = format!("shop/{pod}");
        let before = lab.wait_ready(&full_name)?.ip.context("it has no address")?;
        lab.end_sandbox(&full_name)?;
        let after = lab.wait_for(&full_name, "ready in a new sandbox", |status| {
            status.ready && status.container("main").is_some_and(|main| main.restarts > 0)
        })?;
        let client = lab.pod(&full_name);
        wait_for("the application of the new sandbox is answered through the mesh", || {
            ensure!(client.stat("cluster.shop/server|80.upstream_rq_2xx")? > 20, "it is not yet");
            Ok(())
        })?;
        ensure!(after.ip.is_some(), "it had the address {before}, and has none now");
    }
    Ok(format!("{} sandboxes", pods.len()))
}
