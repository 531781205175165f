//! How pods start: at once, and not at all when a part of the mesh is missing.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::manifests::{
    demo_pod, mesh_namespace, once_pod, plain_namespace, service, service_account, sidecar_settings,
};
use super::open_shop;
use super::shapes::SHAPES;
use crate::Choice;
use crate::lab::{Lab, Place, PodStatus, wait_for};

/// Pods of the one-shot kind.
const PODS: u32 = 50;

/// As many of them at once; more only measures how slow two cores are.
const BATCH: u32 = 10;

const DEMO_IMAGE: &str = "--image=openservicemesh/osm-demo:latest-main";

/// What OSM's users could not do: a pod that connects once, at once, and is never restarted.
pub(super) fn kubectl_run_connects_at_once(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let names: Vec<String> = (0..PODS).map(|number| format!("run-{number}")).collect();
    for batch in names.chunks(BATCH as usize) {
        for name in batch {
            lab.kubectl(&[
                "run",
                name,
                "--namespace=shop",
                "--restart=Never",
                DEMO_IMAGE,
                "--image-pull-policy=Never",
                "--",
                "once",
                "http://server.shop/",
            ])?
            .success()?;
        }
        for name in batch {
            let full_name = format!("shop/{name}");
            let pod = lab.wait_for(&full_name, "over", PodStatus::is_over)?;
            let said = lab.logs(&full_name, name)?;
            ensure!(pod.exit_code(name) == Some(0), "{full_name} failed: {said}");
            ensure!(pod.containers.iter().any(|container| container.name == "envoy"), "{full_name} has no sidecar");
        }
        lab.kubectl(&[&["delete", "pod", "--namespace=shop"], &texts(batch)[..]].concat())?.success()?;
    }
    Ok(format!("{PODS} of {PODS} succeeded"))
}

/// With the sidecar's image missing, or `osm-init` unable to run, the kubelet starts what it can. None of it is heard.
pub(super) fn nothing_leaves_unmeshed(choice: &Choice) -> Result<String> {
    let first = [
        mesh_namespace("shop"),
        plain_namespace("plain"),
        service_account("shop", "server"),
        service_account("shop", "client"),
        service_account("plain", "client"),
        service("shop", "server", "{name: http, port: 80, targetPort: 8080}"),
        demo_pod("shop", "server", "server", "serve, --port, '8080', --name, server"),
    ];
    let lab = Lab::up(choice, &first.concat())?;
    // The other image has no `osm-sidecar`, so its container cannot even be made.
    let (none, other) = match lab.place() {
        Place::Cluster => ("openservicemesh/no-such-image:latest-main", "openservicemesh/osm-demo:latest-main"),
        Place::Machine => ("osm-demo", "osm-demo"),
    };
    let missing = lacking(&lab, "image", none, &SHAPES)?;
    let failing = lacking(&lab, "initContainerImage", other, &["init", "native"])?;
    Ok(format!("no packet with the sidecar's image missing ({missing}), nor with osm-init failing ({failing})"))
}

/// Starts a pod of each shape while one image is wrong, and listens on the node; gives back what Kubernetes says.
fn lacking(lab: &Lab, field: &str, image: &str, shapes: &[&str]) -> Result<String> {
    let server = lab.wait_ready("shop/server")?.ip.context("the server has no address")?;
    let service = lab.cluster_ip("shop/server")?;
    let _undone_at_the_end = WrongImage::set(lab, field, image)?;
    let file = format!("{field}.txt");
    let filter = format!("tcp[tcpflags] & tcp-syn != 0 and (host {server} or host {service})");
    let mut capture = lab.listen(&filter, &file)?;
    let pods: Vec<String> = shapes.iter().map(|shape| format!("{shape}-without-{}", field.to_lowercase())).collect();
    for (pod, shape) in pods.iter().zip(shapes) {
        // In the shape init its user is told that it never completes.
        lab.apply_file("lacking.yaml", &once_pod(pod, &format!("openservicemesh.io/startup: {shape}")))?;
    }
    let reasons: Vec<String> = pods.iter().map(|pod| reason_of(lab, pod)).collect::<Result<_>>()?;
    // What a pod outside the mesh sends is seen, so what the others had sent before would be.
    let plain = format!("plain-{}", field.to_lowercase());
    let outside = once_pod(&plain, "").replace("namespace: shop", "namespace: plain");
    lab.apply(&outside)?;
    let outside = lab.wait_for(&format!("plain/{plain}"), "over", PodStatus::is_over)?;
    let outside = outside.ip.context("the pod outside the mesh has no address")?;
    wait_for("the pod outside the mesh is heard", || {
        ensure!(!capture.has_ended()?, "tcpdump has ended");
        ensure!(fs::read_to_string(lab.path(&file))?.contains(&format!("IP {outside}.")), "it is not");
        Ok(())
    })?;
    lab.node(&["pkill", "-x", "tcpdump"])?.success()?;
    let heard = fs::read_to_string(lab.path(&file))?;
    let status = lab.status()?;
    for pod in &pods {
        let found = status.pods.iter().find(|it| it.name == *pod).context("the pod is gone")?;
        let ip = found.ip.as_ref().with_context(|| format!("{pod} has no address, so it proves nothing"))?;
        ensure!(!heard.contains(&format!("IP {ip}.")), "{pod} was heard:\n{heard}");
    }
    Ok(reasons.join(", "))
}

/// The first reason why a container of a pod does not run: it waits, or it could not be started and will not be again.
fn reason_of(lab: &Lab, pod: &str) -> Result<String> {
    const ASK: &str =
        "-o=jsonpath={.status.initContainerStatuses[*].state.*.reason} {.status.containerStatuses[*].state.*.reason}";
    if lab.place() == Place::Machine {
        let says_why = |status: &PodStatus| status.reason.contains("ended with exit code");
        return Ok(lab.wait_for(&format!("shop/{pod}"), "saying why it does not run", says_why)?.reason);
    }
    wait_for(&format!("Kubernetes says why {pod} does not run"), || {
        let said = lab.kubectl(&["get", "pod", pod, "--namespace=shop", ASK])?.success()?;
        let mut reasons = said
            .split_whitespace()
            .filter(|reason| !["PodInitializing", "ContainerCreating", "Completed"].contains(reason));
        Ok(reasons.next_back().context("it says nothing yet")?.to_owned())
    })
}

/// A wrong image in the MeshConfig, as long as it lives.
struct WrongImage<'a> {
    lab: &'a Lab,
    field: &'a str,
}

impl<'a> WrongImage<'a> {
    /// Sets it and waits until pods get it.
    fn set(lab: &'a Lab, field: &'a str, image: &str) -> Result<WrongImage<'a>> {
        let undo = WrongImage { lab, field };
        undo.patch(&format!("\"{image}\""))?;
        if lab.place() == Place::Machine {
            return Ok(undo);
        }
        wait_for("pods get the image", || {
            ensure!(lab.dry_run(&once_pod("try", ""))?.contains(image), "they do not yet");
            Ok(())
        })?;
        Ok(undo)
    }

    fn patch(&self, image: &str) -> Result<()> {
        if self.lab.place() == Place::Machine {
            return self.lab.apply(&sidecar_settings(&format!("{}: {image}", self.field)));
        }
        let patch = format!("{{\"spec\":{{\"sidecar\":{{\"{}\":{image}}}}}}}", self.field);
        self.lab
            .kubectl(&["patch", "meshconfig", "osm-mesh-config", "-n", "osm-system", "--type=merge", "-p", &patch])?
            .success()?;
        Ok(())
    }
}

impl Drop for WrongImage<'_> {
    fn drop(&mut self) {
        // There is nobody to tell; the next scenario's pods would not start, which says so.
        self.patch("null").ok();
    }
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
