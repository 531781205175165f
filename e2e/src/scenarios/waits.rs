//! Pods that are to wait: for the mesh before their application starts, and for other services.

use anyhow::{Context, Result, ensure};

use super::manifests::{IDLE, container_pod, demo_pod, service, service_account};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, PodStatus, wait_for};

const ASKS_LATE: &str = "  restartPolicy: Never
  containers:
    - {name: main, image: osm-demo, args: [once, 'http://late.shop/']}
";

pub(super) fn the_application_waits_for_its_upstream(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    lab.apply(
        &[service_account("shop", "late"), service("shop", "late", "{name: http, port: 80, targetPort: 8080}")]
            .concat(),
    )?;
    let shapes = ["native", "merged"];
    for shape in shapes {
        let annotations = format!(
            "openservicemesh.io/startup: {shape}, openservicemesh.io/hold: container, openservicemesh.io/wait-for: 'shop/server, shop/late:80'"
        );
        lab.apply(&container_pod(&format!("patient-{shape}"), &annotations, ASKS_LATE))?;
    }
    for shape in shapes {
        let pod = format!("shop/patient-{shape}");
        wait_for(&format!("{pod} says what it waits for"), || {
            let (is_ready, said) = lab.pod(&pod).says_ready()?;
            let reason = "it is to wait for other services: shop/late:80 has no endpoint (upstream, since ";
            ensure!(!is_ready && said.contains(reason) && !said.contains("shop/server"), "it says {said}");
            Ok(())
        })?;
        let status = lab.wait_for(&pod, "there", |_| true)?;
        ensure!(has_not_started(&status), "its application has started: {status:?}");
    }
    lab.apply(&demo_pod("shop", "late", "late", "serve, --port, '8080', --name, late"))?;
    for shape in shapes {
        let pod = format!("shop/patient-{shape}");
        let status = lab.wait_for(&pod, "over", PodStatus::is_over)?;
        let log = lab.logs(&pod, "main")?;
        ensure!(status.exit_code("main") == Some(0), "the service was there, and yet: {log}");
        ensure!(
            status.containers.iter().all(|container| container.restarts == 0),
            "something was restarted: {status:?}"
        );
    }
    what_cannot_be_waited_for_is_refused(&lab)?;
    Ok(format!("shapes {}", shapes.join(" and ")))
}

fn has_not_started(pod: &PodStatus) -> bool {
    pod.phase == "Pending"
        && pod.exit_code("main").is_none()
        && pod.container("main").is_some_and(|main| main.pid.is_none())
}

fn what_cannot_be_waited_for_is_refused(lab: &Lab) -> Result<()> {
    for (annotation, words) in [
        ("openservicemesh.io/wait-for: late", "names no namespace: write namespace/service"),
        ("openservicemesh.io/wait-for: shop/late:http", "is not a port: write a number from 1 to 65535"),
        ("openservicemesh.io/wait-for: shop/late, openservicemesh.io/wait-for-limit: soon", "is no length of time"),
        ("openservicemesh.io/hold: container, openservicemesh.io/startup: init", "cannot be held back"),
    ] {
        let said = lab.apply_file("wrong.yaml", &container_pod("wrong", annotation, ASKS_LATE))?;
        ensure!(said.code != Some(0) && said.all().contains(words), "{annotation} was answered: {}", said.all());
        lab.delete(&container_pod("wrong", annotation, ASKS_LATE)).ok();
    }
    Ok(())
}

/// A limit is the end of it, and before it the pod is not ready.
pub(super) fn the_wait_for_an_upstream_ends(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    lab.apply(
        &[service_account("shop", "late"), service("shop", "late", "{name: http, port: 80, targetPort: 8080}")]
            .concat(),
    )?;
    let pod =
        |name: &str, limit: &str| container_pod(name, &format!("openservicemesh.io/wait-for: shop/late{limit}"), IDLE);
    lab.apply(&[pod("patient", ""), pod("impatient", ", openservicemesh.io/wait-for-limit: 4s")].concat())?;
    wait_for("the one with a limit says until when it waits", || {
        let (_, said) = lab.pod("shop/impatient").says_ready()?;
        ensure!(said.contains("shop/late has no endpoint, until ") && said.contains(" at most"), "it says {said}");
        Ok(())
    })?;
    lab.wait_ready("shop/impatient")?;
    let log = lab.logs("shop/impatient", "envoy")?;
    ensure!(log.contains("the limit has passed"), "its log does not say that it gave up: {log}");
    let (is_ready, said) = lab.pod("shop/patient").says_ready()?;
    ensure!(!is_ready && said.contains("shop/late has no endpoint (upstream"), "the one without a limit says {said}");
    lab.apply(&demo_pod("shop", "late", "late", "serve, --port, '8080', --name, late"))?;
    lab.wait_ready("shop/patient")?;
    // It was a wait for a start: what goes later takes nobody out of service.
    lab.delete(&demo_pod("shop", "late", "late", "serve, --port, '8080', --name, late"))?;
    lab.pod("shop/patient").kill_envoy().context("an Envoy that is started anew does not wait again")?;
    Ok(String::new())
}
