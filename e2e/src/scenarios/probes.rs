//! The kubelet's probes under mTLS: every kind, for every purpose, and while Envoy restarts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::manifests::container_pod;
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, PodStatus, wait_for};

/// One after another, each container has them for start, readiness and liveness, beginning with another one: together all
/// fifteen ways to combine them.
const CONTAINERS: usize = 5;

/// So long Envoy is killed as soon as it is back.
const KILLING: Duration = Duration::from_secs(10);

/// What a container can be asked, with names of ports that every container has.
fn action(kind: usize, container: usize, demo: &str) -> String {
    match kind % CONTAINERS {
        0 => "httpGet: {port: web, path: /healthy}".to_owned(),
        1 => "httpGet: {port: secure, scheme: HTTPS}".to_owned(),
        2 => "tcpSocket: {port: web}".to_owned(),
        3 => format!("grpc: {{port: {}}}", 9090 + container),
        _ => format!("exec: {{command: ['{demo}', once, 'http://127.0.0.1:{}/']}}", 8080 + container),
    }
}

/// A container that serves all of it on ports of its own, under the names that the others use too.
fn probed(name: &str, number: usize, health: &str, probes: &str) -> String {
    let (web, secure, rpc) = (8080 + number, 8440 + number, 9090 + number);
    format!(
        "    - name: {name}
      image: osm-demo
      args: [probed, --http, '{web}', --https, '{secure}', --grpc, '{rpc}', --health, {health}]
      ports: [{{name: web, containerPort: {web}}}, {{name: secure, containerPort: {secure}}}]
{probes}"
    )
}

pub(super) fn probes_pass_while_envoy_restarts(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let demo = lab.demo()?;
    // A single failure counts.
    let often = "periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1";
    let containers: String = (0..CONTAINERS)
        .map(|number| {
            let of = |offset: usize| action(number + offset, number, &demo);
            let probes = format!(
                "      startupProbe: {{{}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 60}}
      readinessProbe: {{{}, {often}}}
      livenessProbe: {{{}, {often}}}
",
                of(0),
                of(1),
                of(2)
            );
            probed(&format!("app-{number}"), number, "serving", &probes)
        })
        .collect();
    for shape in super::shapes::SHAPES {
        let spec = format!("  containers:\n{containers}");
        lab.apply_file(
            "probed.yaml",
            &container_pod(&format!("probed-{shape}"), &format!("openservicemesh.io/startup: {shape}"), &spec),
        )?;
    }
    let (mut kills, mut looks) = (0, 0);
    for shape in super::shapes::SHAPES {
        let name = format!("shop/probed-{shape}");
        lab.wait_ready(&name)?;
        let pod = lab.pod(&name);
        let began = Instant::now();
        while began.elapsed() < KILLING {
            pod.kill_envoy()?;
            kills += 1;
            nothing_failed(&lab.wait_ready(&name)?)?;
            looks += 1;
        }
    }
    probes_ask_the_right_one(&lab)?;
    Ok(format!("{kills} kills of Envoy, {looks} looks, no probe failed, nothing was restarted"))
}

fn nothing_failed(pod: &PodStatus) -> Result<()> {
    for container in pod.containers.iter().filter(|container| container.name.starts_with("app-")) {
        ensure!(container.restarts == 0 && container.ready, "{} failed a probe: {pod:?}", container.name);
    }
    let of_app = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with("app-"));
    let failed = |event: &str| ["container-unready", "container-failed-liveness", "container-exited"].contains(&event);
    let failure = pod.timeline.iter().find(|entry| of_app(&entry.container) && failed(&entry.event));
    ensure!(failure.is_none(), "{failure:?} in {pod:?}");
    Ok(())
}

/// A probe is carried out for its own container, and one that must fail fails: each kind, under names that all share.
fn probes_ask_the_right_one(lab: &Lab) -> Result<()> {
    let probes = ["httpGet: {port: web}", "httpGet: {port: secure, scheme: HTTPS}", "grpc: {port: 9092}"];
    let ill = probes.iter().enumerate().map(|(number, action)| {
        let probe = format!("      readinessProbe: {{{action}, periodSeconds: 1}}\n");
        probed(&format!("ill-{number}"), number, "not-serving", &probe)
    });
    let nobody = "      readinessProbe: {tcpSocket: {port: 7777}, periodSeconds: 1}\n";
    let well = "      readinessProbe: {httpGet: {port: web}, periodSeconds: 1}\n";
    let containers: Vec<String> =
        ill.chain([probed("ill-3", 3, "serving", nobody), probed("well", 4, "serving", well)]).collect();
    let spec = format!("  containers:\n{}", containers.concat());
    lab.apply_file("ill.yaml", &container_pod("ill", "", &spec))?;
    let is_ready = |pod: &PodStatus, name: &str| pod.container(name).is_some_and(|container| container.ready);
    let pod =
        lab.wait_for("shop/ill", "ready as far as it can be", |pod| is_ready(pod, "well") && is_ready(pod, "envoy"))?;
    for number in 0..=probes.len() {
        ensure!(!is_ready(&pod, &format!("ill-{number}")), "ill-{number} passes: {pod:?}");
    }
    let address = pod.ip.context("the pod has no address")?;
    // Asked itself, as it would be if the probes did not go to the agent, even the one that is well gives no answer.
    let direct = lab.node(&["curl", "--silent", "--max-time", "5", &format!("http://{address}:8084/")])?;
    ensure!(direct.code != Some(0), "the application answers in plain text: {}", direct.all());
    // The agent's own words, from where the kubelet hears them.
    for (number, words) in ["answers 500", "answers 500", "SERVING", "nobody listens"].into_iter().enumerate() {
        let url = format!("http://{address}:15902/osm-readiness-probe/ill-{number}");
        wait_for("the agent says why", || {
            let said = lab.node(&["curl", "--silent", "--max-time", "5", &url])?.all();
            ensure!(said.contains(words), "{url} answers {said}");
            Ok(())
        })?;
    }
    Ok(())
}
