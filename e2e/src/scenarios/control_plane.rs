//! The control plane on a real Kubernetes: what it may do, what happens without it, and when one of two dies.

use anyhow::{Context, Result, ensure};

use super::manifests::{demo_pod, idle_pod, plain_namespace, service_account};
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

/// A pod on the node's own network cannot be redirected, and its user is told.
pub(super) fn a_pod_on_the_host_network_is_told(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let pod = demo_pod("shop", "on-host", "on-host", "serve, --port, '18080'");
    let pod = pod.replace("  serviceAccountName", "  hostNetwork: true\n  serviceAccountName");
    lab.apply(&[service_account("shop", "on-host"), pod].concat())?;
    let status = lab.wait_ready("shop/on-host")?;
    ensure!(!status.containers.iter().any(|it| it.name == "envoy"), "{status:?}");
    wait_for("an Event says so", || {
        let said =
            lab.kubectl(&["get", "events", "--namespace=shop", "-o", "jsonpath={.items[*].message}"])?.success()?;
        ensure!(said.contains("hostNetwork"), "the events say: {said}");
        Ok(())
    })?;
    Ok(String::new())
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
