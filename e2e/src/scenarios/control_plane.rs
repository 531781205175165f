//! The control plane on a real Kubernetes: what it may do, what happens without it, and when one of two dies.

use anyhow::{Context, Result, ensure};

use super::closed::Opened;
use super::manifests::{IDLE, container_pod, demo_pod, idle_pod, mesh_namespace, plain_namespace, service_account};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, LoadCounts, wait_for};

const CONTROLLER: &str = "deployment/osm-controller";
const ACCOUNT: &str = "--as=system:serviceaccount:osm-system:osm-controller";

/// What a stolen token of the controller must not open: other namespaces' secrets, and starting programs.
pub(super) fn the_controller_may_do_only_its_work(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    lab.kubectl(&["get", "pods", "--namespace=shop", ACCOUNT])?.success().context("what it needs is allowed")?;
    let forbidden: &[&[&str]] = &[
        &["get", "secrets", "--namespace=shop"],
        &["get", "secrets", "--namespace=kube-system"],
        &["delete", "pod", "client", "--namespace=shop"],
        &["run", "intruder", "--namespace=shop", "--image=openservicemesh/osm-demo:latest-main"],
        &["exec", "client", "--namespace=shop", "--", "/usr/local/bin/osm-demo", "--help"],
        &["create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=somebody"],
        &["delete", "mutatingwebhookconfiguration", "osm-webhook-osm"],
        &["patch", "node", "node", "--type=merge", "--patch={\"spec\":{\"unschedulable\":true}}"],
    ];
    for request in forbidden {
        let (verb, rest) = request.split_first().expect("no request is empty");
        let said = lab.kubectl(&[&[*verb, ACCOUNT][..], rest].concat())?;
        ensure!(
            said.code != Some(0) && said.stderr.contains("orbidden"),
            "{request:?} was not refused: {}",
            said.all()
        );
    }
    Ok(format!("{} requests refused", forbidden.len()))
}

/// The webhook is closed while nobody answers it: nothing starts bare, nobody else is touched, and the reason can be read.
pub(super) fn without_a_controller_nothing_starts_bare(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let _back_at_the_end = Scaled::away(&lab)?;
    only_closed_webhooks_keep_it_away(&lab)?;
    let deployment = "---
apiVersion: apps/v1
kind: Deployment
metadata: {name: late, namespace: shop}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec:
      serviceAccountName: client
      containers: [{name: main, image: osm-demo, args: [serve]}]
";
    lab.apply(deployment)?;
    let said = wait_for("Kubernetes says why there is no pod", || {
        let said = lab.kubectl(&["describe", "replicaset", "--namespace=shop", "-l", "app=late"])?.success()?;
        ensure!(said.contains("FailedCreate") && said.contains("osm-controller"), "it says:\n{said}");
        Ok(said)
    })?;
    ensure!(lab.pods_of("shop/late")?.is_empty(), "a pod of the mesh was made while nobody could inject it");
    let reason = said.lines().rev().find(|line| line.contains("FailedCreate")).unwrap_or_default().trim().to_owned();

    let outside = [plain_namespace("plain"), service_account("plain", "idle"), idle_pod("plain", "idle")];
    lab.apply(&outside.concat()).context("a pod outside the mesh while the controller is down")?;
    lab.wait_ready("plain/idle")?;
    lab.pod("shop/client").get("http://server.shop/").context("what runs goes on")?;

    Scaled::set(&lab, 1)?;
    wait_for("the pod is made and ready", || {
        let pods = lab.pods_of("shop/late")?;
        let is_meshed = |name: &str| pods.iter().all(|pod| pod.containers.iter().any(|it| it.name == name));
        ensure!(pods.len() == 1 && pods[0].ready && is_meshed("envoy"), "{pods:?}");
        Ok(())
    })?;
    Ok(format!("meanwhile Kubernetes said: {reason}"))
}

/// Nothing but the webhooks' failure policy keeps a pod without a sidecar away.
fn only_closed_webhooks_keep_it_away(lab: &Lab) -> Result<()> {
    let pod = container_pod("bare", "", IDLE);
    let opened = Opened::fail_open(lab)?;
    wait_for("a pod would be made without its sidecar", || {
        let made = lab.dry_run(&pod)?;
        ensure!(!made.contains("osm-init"), "it has one: {made}");
        Ok(())
    })?;
    drop(opened);
    wait_for("it would not be made", || {
        let refused = lab.dry_run(&pod);
        ensure!(refused.is_err(), "it would: {refused:?}");
        Ok(())
    })
}

/// Of two controllers either may die: traffic, new pods and changes do not notice.
pub(super) fn either_of_two_controllers_may_die(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let _back_at_the_end = Scaled::to(&lab, 2)?;
    let client = lab.pod("shop/client");
    let mut counts = Vec::new();
    for round in 0..2 {
        let names = wait_for("both controllers are ready", || {
            let pods = lab.kubectl(&["rollout", "status", CONTROLLER, "-n", "osm-system", "--timeout=1s"])?.success();
            pods?;
            let said = lab.kubectl(&["get", "pods", "-n", "osm-system", "-l", "app=osm-controller", "-o", "name"])?;
            let names: Vec<String> = said.success()?.lines().map(str::to_owned).collect();
            ensure!(names.len() == 2, "{names:?}");
            Ok(names)
        })?;
        let load = client.load("http://server.shop/", 50, 4)?;
        lab.kubectl(&["delete", &names[round], "-n", "osm-system", "--grace-period=0", "--force", "--wait=false"])?
            .success()?;
        let late = format!("late-{round}");
        lab.apply(&[service_account("shop", &late), demo_pod("shop", &late, &late, "serve, --port, '8080'")].concat())
            .context("a pod made just after one of two controllers was killed")?;
        lab.wait_ready(&format!("shop/{late}"))?;
        let count = LoadCounts::of(load)?;
        ensure!(count.ok == count.tried, "{count:?}");
        counts.push(count.ok);
    }
    Ok(format!("{counts:?} requests, 0 failed"))
}

/// Who asked for the mesh and cannot have it runs without, and its user is told.
pub(super) fn who_cannot_be_meshed_is_told(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let on_host = |port: u16| {
        format!(
            "  hostNetwork: true
  containers:
    - {{name: main, image: osm-demo, args: [serve, --port, '{port}']}}
"
        )
    };
    // One whose user did not ask for the mesh is told nothing, so that being told proves something.
    let pods = [
        container_pod("on-host", "", &on_host(18080)),
        container_pod("unasked", "openservicemesh.io/sidecar-injection: disabled", &on_host(18081)),
        container_pod("on-windows", "", &format!("  os: {{name: windows}}\n{IDLE}")),
    ];
    let ignored = mesh_namespace("quiet").replace("osm}", "osm, openservicemesh.io/ignore: 'true'}");
    let in_ignored = [ignored, service_account("quiet", "ignored"), idle_pod("quiet", "ignored")];
    lab.apply(&[pods.concat(), in_ignored.concat()].concat())?;

    for (pod, about, what) in [
        ("shop/on-host", "on-host", "hostNetwork: the pod has no network of its own"),
        ("shop/on-windows", "on-windows", "the pod is for Windows"),
        ("quiet/ignored", "quiet", "its pods stay outside of the mesh"),
    ] {
        let status = lab.wait_for(pod, "there", |_| true)?;
        ensure!(status.containers.iter().all(|it| it.name != "envoy"), "{status:?}");
        wait_for(&format!("an Event says so of {about}"), || {
            let said = events_of(&lab, about)?;
            ensure!(said.contains(what), "the events say: {said}");
            Ok(())
        })?;
    }
    lab.wait_ready("shop/on-host")?;
    lab.wait_ready("quiet/ignored")?;
    lab.wait_ready("shop/unasked")?;
    let said = events_of(&lab, "unasked")?;
    ensure!(!said.contains("outside of the mesh"), "who did not ask for the mesh is told of it: {said}");
    Ok(String::new())
}

/// What Events say of an object of this name.
fn events_of(lab: &Lab, name: &str) -> Result<String> {
    let of_name = format!("--field-selector=involvedObject.name={name}");
    lab.kubectl(&["get", "events", "-A", &of_name, "-o", "jsonpath={.items[*].message}"])?.success()
}

/// Another number of controllers, as long as it lives.
pub(super) struct Scaled<'a>(&'a Lab);

impl<'a> Scaled<'a> {
    fn to(lab: &'a Lab, replicas: u32) -> Result<Scaled<'a>> {
        Scaled::set(lab, replicas)?;
        Ok(Scaled(lab))
    }

    /// Without a controller, once the last one is gone.
    pub(super) fn away(lab: &'a Lab) -> Result<Scaled<'a>> {
        let scaled = Scaled::to(lab, 0)?;
        wait_for("the controller is gone", || {
            let left = lab.kubectl(&["get", "pods", "-n", "osm-system", "-l", "app=osm-controller", "-o", "name"])?;
            let left = left.success()?;
            ensure!(left.trim().is_empty(), "left: {left}");
            Ok(())
        })?;
        Ok(scaled)
    }

    pub(super) fn set(lab: &Lab, replicas: u32) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        lab.kubectl(&["scale", CONTROLLER, "-n", "osm-system", &replicas])?.success()?;
        Ok(())
    }
}

impl Drop for Scaled<'_> {
    fn drop(&mut self) {
        // There is nobody to tell; without a controller the next scenario fails, which says so.
        Scaled::set(self.0, 1).ok();
        self.0.kubectl(&["rollout", "status", CONTROLLER, "-n", "osm-system", "--timeout=60s"]).ok();
    }
}
