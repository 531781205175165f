//! The controller is down: who must wait for it says so, and what was decided meanwhile is honoured once it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::control_plane::Scaled;
use super::manifests::{SMI_MODE, grant, once_pod, shop};
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, Place, PodStatus, wait_for};

/// Attempts of a sidecar to reach the controller are no more than 5 s apart; then it takes one push. The rest is what a
/// busy machine may add to both.
const HONOURED_WITHIN: Duration = Duration::from_millis(6_500);

/// Outages of one run; each takes about fifteen seconds.
const OUTAGES: u32 = 2;

/// After so many vain starts of the controller a sidecar, which waits as the runner does, has come to its longest pause.
const VAIN_STARTS: u32 = 7;

pub(super) fn a_new_pod_waits_for_the_controller(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let outage = Outage::begin_with_pod(&lab, "late", &once_pod("late", ""))?;
    let missing = wait_for("the new pod says that it waits for the controller", || {
        let pod = lab.wait_for("shop/late", "there", |_| true)?;
        ensure!(pod.exit_code("once").is_none(), "its application did not wait: {}", lab.logs("shop/late", "once")?);
        let startup = lab.startup_of("shop/late")?;
        let first = startup.missing.iter().find(|item| item.owner.contains("osm-controller"));
        Ok(first.with_context(|| format!("nothing is missing from osm-controller: {startup:?}"))?.clone())
    })?;
    let table = lab.startup(&["shop/late"])?.success()?;
    ensure!(table.contains("waits for: "), "the waterfall does not say so: {table}");
    lab.pod("shop/client").get("http://server.shop/").context("what works goes on meanwhile")?;
    let status = lab.wait_for("shop/late", "there", |_| true)?;
    ensure!(!status.is_over(), "the pod did not wait: {status:?}");

    outage.end()?;
    let back = Instant::now();
    let status = lab.wait_for("shop/late", "over", PodStatus::is_over)?;
    let log = lab.logs("shop/late", "once")?;
    ensure!(status.phase == "Succeeded", "the pod that waited ended {}: {log}", status.phase);
    let waited_for = missing.what;
    Ok(format!("it waited for {waited_for:?}, and was done {:.1} s after the controller was back", seconds(back)))
}

pub(super) fn a_grant_revoked_meanwhile(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &[&shop(), SMI_MODE, &grant("client", "server")].concat())?;
    let client = lab.pod("shop/client");
    lab.wait_ready("shop/client")?;
    let mut took = Vec::new();
    for round in 0..OUTAGES.min(choice.count) {
        lab.apply(&grant("client", "server"))?;
        wait_for("the grant lets the client in", || client.get("http://server.shop/"))?;
        let outage = Outage::begin(&lab)?;
        lab.osm("delete", &["-f", lab.write("revoked.yaml", &grant("client", "server"))?.to_str().context("a path")?])?;
        outage.wait_for_vain_starts(VAIN_STARTS)?;
        client.get("http://server.shop/").context("without the controller nobody can know that it was revoked")?;
        outage.end()?;
        let back = Instant::now();
        wait_for("the client is refused", || {
            let answer = client.exec_demo(&["once", "http://server.shop/"])?.all();
            ensure!(answer.contains("status 403"), "round {round}: {answer}");
            Ok(())
        })?;
        took.push(back.elapsed());
    }
    let longest = took.iter().max().copied().unwrap_or_default();
    ensure!(longest <= HONOURED_WITHIN, "refused only {longest:?} after the controller was back; all: {took:?}");
    let list: Vec<String> = took.iter().map(|took| format!("{:.1}", took.as_secs_f64())).collect();
    Ok(format!("refused {} s after the controller was back", list.join(", ")))
}

/// A controller that has died and whose program is gone, so that the runner cannot start it again.
pub(super) struct Outage<'a> {
    lab: &'a Lab,
    restarts_before: u32,
    /// On a cluster, who brings it back if nobody else does; a machine's mesh ends with its lab.
    scaled: Option<Scaled<'a>>,
}

impl Outage<'_> {
    pub(super) fn begin(lab: &Lab) -> Result<Outage<'_>> {
        let restarts_before = lab.status()?.controller.restarts;
        if lab.place() == Place::Cluster {
            return Ok(Outage { lab, restarts_before, scaled: Some(Scaled::away(lab)?) });
        }
        lab.remove_controller()?;
        lab.signal("osm-controller", "KILL")?;
        wait_for("the controller is down", || {
            let controller = lab.status()?.controller;
            ensure!(!controller.ready && controller.restarts > restarts_before, "it is {controller:?}");
            Ok(())
        })?;
        Ok(Outage { lab, restarts_before, scaled: None })
    }

    /// The same with a pod of `shop` that starts without a controller.
    pub(super) fn begin_with_pod<'a>(lab: &'a Lab, name: &str, manifests: &str) -> Result<Outage<'a>> {
        start_after(lab, name, manifests, || Outage::begin(lab))
    }

    fn wait_for_vain_starts(&self, count: u32) -> Result<()> {
        wait_for("the runner has tried to start the controller", || {
            let controller = self.lab.status()?.controller;
            ensure!(controller.restarts >= self.restarts_before + count, "it is {controller:?}");
            Ok(())
        })
    }

    /// Lets it live again, and waits until it says that it is ready.
    pub(super) fn end(self) -> Result<()> {
        match &self.scaled {
            None => self.lab.place_controller()?,
            Some(_) => Scaled::set(self.lab, 1)?,
        }
        controller_is_ready(self.lab)
    }
}

/// Makes a pod of `shop` that starts after a fault of the controller. Where only the controller can let it in, it is let in
/// before and kept from its node until then.
pub(super) fn start_after<T>(lab: &Lab, name: &str, manifests: &str, fault: impl FnOnce() -> Result<T>) -> Result<T> {
    if lab.place() == Place::Machine {
        let done = fault()?;
        lab.apply_file("late.yaml", manifests)?;
        return Ok(done);
    }
    let gated =
        manifests.replace("  serviceAccountName", "  schedulingGates: [{name: e2e/fault}]\n  serviceAccountName");
    lab.apply_file("late.yaml", &gated)?.success()?;
    let done = fault()?;
    let opened = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    lab.kubectl(&["patch", "pod", name, "-n", "shop", "--type=json", "-p", opened])?.success()?;
    Ok(done)
}

/// Ends the controller and runs this line in its place, as [`Lab::place_script_for_controller`] reads it.
pub(super) fn replace_controller(lab: &Lab, line: &str) -> Result<()> {
    lab.place_script_for_controller(line)?;
    let before = lab.status()?.controller.restarts;
    lab.signal("osm-controller", "KILL")?;
    wait_for("another controller runs", || {
        let controller = lab.status()?.controller;
        ensure!(controller.restarts > before && lab.signal("osm-controller", "CONT").is_ok(), "it is {controller:?}");
        Ok(())
    })
}

/// Runs the controller itself again, and waits until it says that it is ready.
pub(super) fn restore_controller(lab: &Lab) -> Result<()> {
    lab.remove_controller()?;
    lab.place_controller()?;
    lab.signal("osm-controller", "KILL")?;
    controller_is_ready(lab)
}

/// Waits until the controller says that it is ready.
pub(super) fn controller_is_ready(lab: &Lab) -> Result<()> {
    wait_for("the controller is ready", || {
        let controller = lab.status()?.controller;
        ensure!(controller.ready, "it is {controller:?}");
        Ok(())
    })
}

/// A controller one of whose directories of manifests is missing: it reads on until it is there.
pub(super) const IGNORANT_CONTROLLER: &str = "exec $CONTROLLER \"$@\" --manifests /no/such/directory";

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
