//! A pod that waits says why: every cause that can be made on one machine is made for real, one after the other, each
//! for a pod of its own, and `osm startup` must name it.

mod faults;
mod images;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::manifests::{once_pod, service_account, shop};
use crate::Choice;
use crate::lab::{Item, Lab, Place, Startup, wait_for};
use faults::{FAULTS, Fault};

/// From the moment when a fault can be seen to the reason.
const SAID_WITHIN_MS: i64 = 2_000;

pub(super) fn twenty_causes(choice: &Choice) -> Result<String> {
    let lab = Lab::up_with_images(choice, &shop(), images::prepare)?;
    lab.wait_ready("shop/client")?;
    let (mut slowest, mut named) = ((0, ""), 0);
    for fault in FAULTS {
        let took = inject(&lab, fault).with_context(|| format!("injecting {}", fault.name))?;
        named += 1;
        if took > slowest.0 {
            slowest = (took, fault.name);
        }
    }
    ensure!(named >= 20, "only {named} causes");
    lab.pod("shop/client").get("http://server.shop/").context("what ran before goes on")?;
    Ok(format!("{named} of {named} named, the slowest ({}) {} ms after it could be seen", slowest.1, slowest.0))
}

/// Makes the fault, waits until it is named, and takes it back; in how many milliseconds it was named.
fn inject(lab: &Lab, fault: &Fault) -> Result<i64> {
    let Fault { name, reason, owner, words, .. } = *fault;
    lab.apply(&images::choose(name, fault.image))?;
    lab.apply(&service_account("shop", name))?;
    let seen = (fault.begin)(lab, name)?;
    let pod = format!("shop/{name}");
    let (startup, found, waited) = wait_for(&format!("{pod} says {reason}"), || {
        let startup = lab.startup_of(&pod)?;
        let item = fault.list(&startup).first().with_context(|| format!("it waits for nothing: {startup:?}"))?.clone();
        ensure!(item.reason == reason, "it says {item:?}");
        Ok((startup, item, seen.elapsed()))
    })?;
    ensure!(found.what.contains(words), "{words:?} is not in {:?}", found.what);
    ensure!(found.owner == owner, "it is owned by {:?}", found.owner);
    ensure!(!found.advice.is_empty() && !found.what.contains('\n'), "it is not one line with advice: {found:?}");
    let took = fault.took(&startup, waited);
    ensure!(took <= SAID_WITHIN_MS, "it was named only after {took} ms: {startup:?}");
    let picture = lab.startup(&[&pod])?.success()?;
    let mark = if fault.is_warning { "warning: " } else { "waits for: " };
    ensure!(picture.contains(mark) && picture.contains(reason), "the picture does not say so: {picture}");
    (fault.end)(lab, name).context("taking it back")?;
    Ok(took)
}

impl Fault {
    fn list<'s>(&self, startup: &'s Startup) -> &'s [Item] {
        if self.is_warning { &startup.warnings } else { &startup.missing }
    }

    /// Since the fault could be seen: since the process that meets it began, or since it was made.
    fn took(&self, startup: &Startup, waited: Duration) -> i64 {
        let waited = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
        let begun = self.met_by.iter().find_map(|kind| startup.first(kind));
        begun.map_or(waited, |at| (startup.age_ms - at).min(waited))
    }
}

pub(super) fn starts_are_pictured(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    lab.wait_ready("shop/client")?;
    lab.apply(&once_pod("first", ""))?;
    lab.wait_for("shop/first", "over", |status| status.is_over() || status.exit_code("once").is_some())?;
    let picture = lab.startup(&["client", "-n", "shop"])?.success()?;
    let steps = [
        "created",
        "osm-init ended with exit code 0",
        "agent runs",
        "Envoy runs",
        "controller reached",
        "identity issued",
        "configuration received",
        "Envoy acknowledged: cluster",
        "Envoy acknowledged: listener",
        "programmed: the gate is open",
        "main started",
        "pod ready",
    ];
    for step in steps {
        ensure!(picture.contains(step), "{step:?} is not in\n{picture}");
    }
    ensure!(picture.contains("waits for nothing"), "{picture}");
    let all: Vec<Value> = serde_json::from_str(&lab.startup(&["--all", "-n", "shop", "-o", "json"])?.success()?)?;
    let gate = |startup: &Value| {
        let phases = startup["phases"].as_array().into_iter().flatten();
        phases.filter(|length| length["phase"] == "gate").find_map(|length| length["ms"].as_i64())
    };
    // Those that wait for something come before.
    let waits = |startup: &&Value| startup["missing"].as_array().is_some_and(|missing| !missing.is_empty());
    let gates: Vec<Option<i64>> = all.iter().filter(|startup| !waits(startup)).map(gate).collect();
    ensure!(all.len() >= 2 && gates.is_sorted_by(|one, next| one >= next), "not the slowest first: {gates:?}");
    let table = lab.startup(&["--all", "-n", "shop"])?.success()?;
    ensure!(table.contains("shop/client") && table.contains("GATE"), "{table}");
    if choice.place == Place::Machine {
        the_controller_measures(&lab)?;
    }
    Ok(format!("gates opened after {gates:?} ms"))
}

/// The histogram that dashboards read, without names of pods.
fn the_controller_measures(lab: &Lab) -> Result<()> {
    let line = "osm_startup_seconds_count{phase=\"gate\"}";
    let began = Instant::now();
    wait_for("the controller has measured the starts", || {
        let page = lab.node(&["curl", "-s", "http://127.0.0.1:9091/metrics"])?.success()?;
        let found = page.lines().find_map(|found| found.strip_prefix(line)).context("there is no histogram")?;
        let count: u32 = found.trim().parse().context("reading a count")?;
        ensure!(count >= 2, "only {count} after {:?}", began.elapsed());
        ensure!(!page.contains("phase=\"gate\",pod"), "the labels name pods");
        Ok(())
    })
}
