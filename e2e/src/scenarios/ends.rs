//! How pods end: Jobs complete, the proxy outlives the application, and what is under way is finished.

use anyhow::{Context, Result, ensure};

use super::manifests::{container_pod, idle_pod, mesh_namespace, server_pod, service, service_account};
use super::open_shop;
use super::shapes::SHAPES;
use crate::Choice;
use crate::lab::{Lab, LoadCounts, binary, wait_for};

/// When a pod that ends asks; the server's answer ends with what it was asked for.
const MOMENTS: [&str; 2] = ["in-pre-stop", "at-the-end"];

/// In the shape in which Kubernetes waits for the sidecar as for any other container.
pub(super) fn jobs_complete_in_shape_init(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let demo = binary("osm-demo")?;
    let once = format!("{} once http://server.shop/", demo.display());
    lab.apply(&job("done", &once))?;
    lab.apply(&job("fails", &format!("{once}; exit 7")))?;
    // As OSM's users end their Jobs; afterwards the work still goes on for a moment.
    let order = format!("{} post http://127.0.0.1:15000/quitquitquit", demo.display());
    lab.apply(&job("quits", &format!("{once} && {order} && sleep 4")))?;

    wait_for("the sidecar has quit before the work has ended", || {
        let pods = lab.status()?.pods;
        let pod = pods.iter().find(|pod| pod.job.as_ref().is_some_and(|job| job.name == "quits"));
        let pod = pod.context("the Job has no pod yet")?;
        ensure!(pod.exit_code("work").is_none(), "the work has ended first: {pod:?}");
        ensure!(pod.exit_code("envoy") == Some(0), "the sidecar has not quit: {pod:?}");
        Ok(())
    })?;
    for (name, state, code) in [("done", "Complete", 0), ("fails", "Failed", 7), ("quits", "Complete", 0)] {
        let (status, pods) = lab.wait_job_over(name)?;
        ensure!(status.state == state, "{status:?}");
        let pod = pods.first().with_context(|| format!("the Job {name} has no pod"))?;
        ensure!(pod.exit_code("work") == Some(code), "the exit code is not the work's own: {pod:?}");
        ensure!(pod.exit_code("envoy") == Some(0), "the sidecar did not end well: {pod:?}");
    }
    let refused = lab.pod("shop/client").exec_demo(&["post", "http://127.0.0.1:15000/quitquitquit"])?;
    ensure!(refused.code != Some(0), "a pod that is always restarted gave up its sidecar: {}", refused.all());
    Ok(String::new())
}

/// The application may use the network in its `preStop` hook and while it shuts down.
pub(super) fn the_network_outlives_the_application(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let demo = lab.demo()?;
    let pods = SHAPES.map(|shape| (format!("shop/leaves-{shape}"), leaving_pod(&demo, shape)));
    let manifests: String = pods.iter().map(|(_, manifest)| manifest.as_str()).collect();
    lab.apply(&manifests)?;
    for (name, _) in &pods {
        lab.wait_ready(name)?;
    }
    let logs = pods.iter().map(|(name, _)| lab.log_to_its_end(name, "main")).collect::<Result<Vec<_>>>()?;
    lab.delete(&manifests)?;
    for ((name, _), log) in pods.iter().zip(logs) {
        lab.wait_gone(name)?;
        let said = log.finish()?;
        for moment in MOMENTS {
            let answered = said.lines().any(|line| line.starts_with("status 200") && line.ends_with(moment));
            ensure!(answered, "{name} was not answered {moment}:\n{said}");
        }
    }
    Ok(String::new())
}

/// A pod that asks three seconds after it is told to end, once in its hook and once when the hook is over.
fn leaving_pod(demo: &str, shape: &str) -> String {
    let [in_hook, at_the_end] = MOMENTS.map(|moment| format!("'http://server.shop/{moment}', --pause-ms, '3000'"));
    let spec = format!(
        "  terminationGracePeriodSeconds: 30
  containers:
    - name: main
      image: osm-demo
      args: [last, {at_the_end}]
      lifecycle: {{preStop: {{exec: {{command: ['{demo}', once, {in_hook}, --into, /proc/1/fd/1]}}}}}}
"
    );
    container_pod(&format!("leaves-{shape}"), &format!("openservicemesh.io/startup: {shape}"), &spec)
}

/// Requests that take a while are under way when one of two servers is told to end: each is answered.
pub(super) fn requests_under_way_are_answered(choice: &Choice) -> Result<String> {
    const RATE: u32 = 100;
    const SECONDS: u32 = 12;
    let first = [
        mesh_namespace("shop"),
        service_account("shop", "server"),
        service_account("shop", "client"),
        service("shop", "server", "{name: http, port: 80, targetPort: 8080}"),
        slow_server("slow-init", "init"),
        slow_server("slow-native", "native"),
        slow_server("stays", "init"),
        idle_pod("shop", "client"),
    ];
    let lab = Lab::up(choice, &first.concat())?;
    wait_for("the server answers", || lab.pod("shop/client").get("http://server.shop/"))?;
    let load = lab.pod("shop/client").load("http://server.shop/", RATE, SECONDS)?;
    for (name, shape) in [("slow-init", "init"), ("slow-native", "native")] {
        wait_for(&format!("{name} is busy"), || {
            let busy = lab.pod(&format!("shop/{name}")).stat("http.rds-inbound.8080.downstream_rq_active")?;
            ensure!(busy > 0, "it has nothing to do");
            Ok(())
        })?;
        lab.delete(&slow_server(name, shape))?;
    }
    let counts = LoadCounts::of(load)?;
    ensure!(counts.ok == counts.tried && counts.tried > u64::from(RATE * SECONDS / 2), "{counts:?}");
    Ok(format!("{} requests of half a second, two of three servers ended: all answered", counts.tried))
}

fn slow_server(name: &str, shape: &str) -> String {
    let annotations = format!("openservicemesh.io/startup: {shape}");
    server_pod(name, "server", &annotations, &format!("serve, --delay-ms, '500', --name, {name}"))
}

fn job(name: &str, script: &str) -> String {
    format!(
        "---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  backoffLimit: 0
  template:
    metadata: {{annotations: {{openservicemesh.io/startup: init}}}}
    spec:
      serviceAccountName: client
      restartPolicy: Never
      containers: [{{name: work, image: osm-demo, command: [sh, -c, '{script}']}}]
"
    )
}
