//! What only a real Kubernetes has: its own Jobs, its webhooks, its API server and nodes that end.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::manifests::{once_pod, service};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, wait_for};

/// Pods made while the controller is rolled out.
const TRIES: u32 = 200;

pub(super) fn a_job_completes(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    lab.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: at-once, namespace: shop}
spec:
  completions: 2
  backoffLimit: 0
  template:
    spec:
      serviceAccountName: client
      restartPolicy: Never
      containers:
        - name: work
          image: osm-demo
          args: [once, 'http://server.shop/']
",
    )?;
    let (status, pods) = lab.wait_job_over("at-once")?;
    ensure!(status.state == "Complete" && status.succeeded == 2 && status.failed == 0, "{status:?}");
    for pod in &pods {
        ensure!(pod.phase == "Succeeded" && pod.exit_code("work") == Some(0), "{pod:?}");
        ensure!(pod.exit_code("envoy").is_some(), "the sidecar outlives the work, or was never there: {pod:?}");
    }
    Ok(format!("{} pods", pods.len()))
}

/// Every pod that the API server takes in has its sidecar, whatever the state of the controllers at that moment.
pub(super) fn no_pod_starts_bare(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let tries = TRIES.min(choice.count * 10);
    lab.kubectl(&["rollout", "restart", "deployment/osm-controller", "-n", "osm-system"])?.success()?;
    let (mut admitted, mut refused) = (0, 0);
    for number in 0..tries {
        let said = lab.apply_file("try.yaml", &once_pod(&format!("try-{number}"), ""))?;
        match said.code {
            Some(0) => admitted += 1,
            _ => {
                ensure!(said.stderr.contains("osm"), "it was refused without a reason: {}", said.stderr);
                refused += 1;
            }
        }
    }
    let pods = lab.status()?.pods.into_iter();
    let tried: Vec<_> = pods.filter(|pod| pod.namespace == "shop" && pod.name.starts_with("try-")).collect();
    let bare: Vec<_> = tried.iter().filter(|pod| !pod.containers.iter().any(|it| it.name == "envoy")).collect();
    ensure!(bare.is_empty(), "pods without a sidecar: {bare:?}");
    ensure!(tried.len() == admitted, "of {admitted} admitted pods {} are there", tried.len());
    lab.kubectl(&["rollout", "status", "deployment/osm-controller", "-n", "osm-system", "--timeout=60s"])?.success()?;
    Ok(format!("{admitted} injected, {refused} refused with a reason, 0 bare"))
}

pub(super) fn the_api_server_restarts(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    lab.cluster(&["kill", "kube-apiserver"])?.success()?;
    let began = Instant::now();
    wait_for("the API server is back", || lab.kubectl(&["get", "--raw", "/readyz"])?.success())?;
    let late =
        service("shop", "late", "{name: http, port: 81, targetPort: 8080}").replace("{app: late}", "{app: server}");
    wait_for("a service is taken in", || lab.apply(&late))?;
    wait_for("what was made afterwards is reached", || client.get("http://late.shop:81/"))?;
    Ok(format!("all of it {:.1} s after the kill", began.elapsed().as_secs_f64()))
}

pub(super) fn the_node_restarts(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let restarts = |lab: &Lab| -> Result<u32> {
        let status = lab.status()?;
        let client = status.pods.iter().find(|pod| pod.full_name() == "shop/client").context("there is no client")?;
        Ok(client.containers.iter().filter(|container| container.name == "main").map(|c| c.restarts).sum())
    };
    let before = restarts(&lab)?;
    lab.cluster(&["restart-node"])?.success()?;
    let began = Instant::now();
    wait_for("the client was started again", || {
        ensure!(restarts(&lab)? > before, "it was not");
        Ok(())
    })?;
    wait_for("the controller is ready", || {
        ensure!(lab.status()?.controller.ready, "it is not");
        Ok(())
    })?;
    wait_for("the server answers", || lab.pod("shop/client").get("http://server.shop/"))?;
    Ok(format!("all of it {:.1} s after the node was back", began.elapsed().as_secs_f64()))
}
