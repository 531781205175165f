//! Jobs: the sidecar is there for the work, ends with it, and does not change how it ended.

use anyhow::{Context, Result, ensure};

use super::open_shop;
use crate::Choice;
use crate::lab::binary;

/// As many pods of a Job work one after another.
const COMPLETIONS: usize = 2;

pub(super) fn jobs_with_a_sidecar_complete(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let once = format!("{} once http://server.shop/", binary("osm-demo")?.display());
    // A work that fails once and then succeeds: the pod is the same, so its volume remembers.
    let second_try = format!("[ -e /kept/tried ] || {{ touch /kept/tried; exit 3; }}; {once}");
    lab.apply(&job("at-once", "Never", COMPLETIONS, &once))?;
    lab.apply(&job("again", "OnFailure", 1, &second_try))?;

    let (status, pods) = lab.wait_job_over("at-once")?;
    ensure!(status.state == "Complete" && status.succeeded == COMPLETIONS && status.failed == 0, "{status:?}");
    ensure!(pods.len() == COMPLETIONS, "{pods:?}");
    for pod in &pods {
        ensure!(pod.phase == "Succeeded" && pod.exit_code("work") == Some(0), "{pod:?}");
        ensure!(pod.exit_code("envoy").is_some(), "the sidecar outlives the work: {pod:?}");
    }
    let (status, pods) = lab.wait_job_over("again")?;
    ensure!(status.state == "Complete" && status.failed == 0, "{status:?}");
    let pod = pods.first().context("the Job has no pod")?;
    let work = pod.containers.iter().find(|container| container.name == "work").context("the pod has no work")?;
    ensure!(work.restarts == 1 && work.exit_code == Some(0), "{pod:?}");
    Ok(format!("{} pods and 1 restart", COMPLETIONS + 1))
}

pub(super) fn a_failing_job_is_given_up(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let never = |name: &str, code: i32, more: &str| {
        job(name, "Never", 1, &format!("exit {code}")).replace("backoffLimit: 6", more)
    };
    lab.apply(&never("fails", 7, "backoffLimit: 0"))?;
    lab.apply(&job("fails-in-place", "OnFailure", 1, "exit 8").replace("backoffLimit: 6", "backoffLimit: 1"))?;
    lab.apply(&job("takes-long", "Never", 1, "exec sleep 600").replace("backoffLimit: 6", "activeDeadlineSeconds: 2"))?;

    let (status, pods) = lab.wait_job_over("fails")?;
    ensure!(status.state == "Failed" && status.reason == "BackoffLimitExceeded" && status.failed == 1, "{status:?}");
    let pod = pods.first().context("the failed pod is gone: nobody can see why")?;
    ensure!(pod.phase == "Failed" && pod.exit_code("work") == Some(7), "the exit code is not the work's own: {pod:?}");
    let (status, _) = lab.wait_job_over("fails-in-place")?;
    ensure!(status.state == "Failed" && status.reason == "BackoffLimitExceeded", "{status:?}");
    let (status, _) = lab.wait_job_over("takes-long")?;
    ensure!(status.state == "Failed" && status.reason == "DeadlineExceeded", "{status:?}");
    lab.pod("shop/client").get("http://server.shop/").context("what works goes on")?;
    Ok(String::new())
}

fn job(name: &str, restart_policy: &str, completions: usize, script: &str) -> String {
    format!(
        "---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  completions: {completions}
  backoffLimit: 6
  template:
    spec:
      serviceAccountName: client
      restartPolicy: {restart_policy}
      volumes: [{{name: kept, emptyDir: {{}}}}]
      containers:
        - name: work
          image: osm-demo
          command: [sh, -c, '{script}']
          volumeMounts: [{{name: kept, mountPath: /kept}}]
"
    )
}
