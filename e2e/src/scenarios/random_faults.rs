//! Pods start while everything goes wrong that can: one run of many starts, whose faults are chosen by chance.
//!
//! Pods start in batches. A batch shares a fault of the control plane or of the network; a pod may have one of its own
//! besides. Each application connects at once and then 50 times a second, knows nothing of a mesh, never tries again,
//! and counts what became of its connections until it is told to end.

mod own;
mod shared;
mod start;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use osm_testkit::Progress;

use super::chance::Chance;
use super::open_shop;
use crate::Choice;
use crate::lab::{Lab, LoadCounts, Startup, wait_for};
use shared::SharedFault;
use start::Start;

/// Pods that start together: with more, two cores are always behind, and what is seen is how slow they are.
const BATCH: u32 = 5;

/// Starts of a run that is not asked for more: each shared fault meets one.
const SAMPLE: u32 = SharedFault::ALL.len() as u32;

/// Requests that the Envoy that is there in the end must have carried.
const CARRIED: u64 = 25;

/// What came of all starts.
#[derive(Default)]
struct Outcome {
    starts: u32,
    /// Pods that were held by a fault that stands, and said so.
    held: u32,
    slowest_reason_ms: i64,
    by_own_fault: BTreeMap<&'static str, (u32, u64, u64)>,
    tried: u64,
    lost_packets: (u64, u64),
    slowest_ms: u64,
}

pub(super) fn starts_with_random_faults(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let mut chance = Chance(choice.seed);
    let mut outcome = Outcome::default();
    let count = if choice.is_alone { choice.count } else { SAMPLE };
    // A short run has each fault too.
    let batch = BATCH.min(count.div_ceil(SharedFault::ALL.len() as u32)).max(1);
    let mut progress = Progress::new("starts", count);
    for number in 0..count.div_ceil(batch) {
        progress.done(number * batch);
        let fault = SharedFault::ALL[number as usize % SharedFault::ALL.len()];
        let first = number * batch;
        let starts = (first..count.min(first + batch)).map(|number| Start::by_chance(number, &mut chance)).collect();
        run_batch(&lab, fault, starts, &mut chance, &mut outcome)
            .with_context(|| format!("seed {}, the starts from {first} on, under {fault:?}", choice.seed))?;
    }
    Ok(outcome.figures(choice.seed))
}

/// Starts some pods under one shared fault, and looks at them until all of them carry traffic again.
fn run_batch(
    lab: &Lab,
    fault: SharedFault,
    mut starts: Vec<Start>,
    chance: &mut Chance,
    outcome: &mut Outcome,
) -> Result<()> {
    let manifests: String = starts.iter().map(Start::manifest).collect();
    let mut in_force = Some(fault.begin(lab, chance)?);
    lab.apply(&manifests)?;
    wait_for("every pod of the batch carries traffic", || {
        let looks = lab.startups("shop")?;
        let looks: BTreeMap<&str, &Startup> = looks.iter().map(|startup| (startup.pod.as_str(), startup)).collect();
        for start in &mut starts {
            let look = looks.get(start.pod.as_str()).with_context(|| format!("there is no {}", start.pod))?;
            start.go_on(lab, fault, look)?;
        }
        if let Some(force) = &mut in_force {
            force.go_on()?;
        }
        let is_over = match fault.reason() {
            // In one look, so that none has got past a fault that still stands.
            Some(reason) => starts.iter().all(|start| looks[start.pod.as_str()].reason() == Some(reason)),
            None => starts.iter().all(|start| start.has_settled),
        };
        if is_over && let Some(force) = in_force.take() {
            force.end()?;
        }
        let waiting: Vec<String> = starts.iter().filter(|start| !start.has_settled).map(Start::describe).collect();
        ensure!(in_force.is_none() && waiting.is_empty(), "{}", waiting.join("\n"));
        Ok(())
    })?;
    for start in &starts {
        ensure!(start.wrong_reasons.is_empty(), "{} said {:?}", start.describe(), start.wrong_reasons);
        carries_traffic(lab, start)?;
    }
    lab.delete(&manifests)?;
    for start in &starts {
        lab.wait_gone(&start.pod)?;
        let counts = start.counts(lab, fault)?;
        outcome.add(start, &counts, fault);
    }
    Ok(())
}

fn carries_traffic(lab: &Lab, start: &Start) -> Result<()> {
    let pod = lab.pod(&start.pod);
    wait_for(&format!("the Envoy of {} carries requests", start.pod), || {
        let carried = pod.requests()?;
        ensure!(carried > CARRIED, "{carried} so far");
        Ok(())
    })?;
    let status = lab.wait_for(&start.pod, "there", |_| true)?;
    let restarts = status.container("main").map(|main| main.restarts);
    ensure!(restarts == Some(0), "the application was restarted: {status:?}");
    let restarts = pod.agent_stat("osm_sidecar_envoy_restarts_total")?;
    let hangs = pod.agent_stat("osm_sidecar_envoy_hangs_total")?;
    ensure!(
        start.own.explains_ends_of_envoy(restarts, hangs),
        "Envoy was restarted {restarts} times, and hung {hangs} times: {}",
        start.describe()
    );
    Ok(())
}

impl Outcome {
    fn add(&mut self, start: &Start, counts: &LoadCounts, fault: SharedFault) {
        self.starts += 1;
        self.tried += counts.tried;
        self.slowest_ms = self.slowest_ms.max(counts.slowest_ms);
        if let Some(said_ms) = start.said_after_ms {
            self.held += 1;
            self.slowest_reason_ms = self.slowest_reason_ms.max(said_ms);
        }
        let (times, reset, at_most) = self.by_own_fault.entry(start.own.name()).or_default();
        *times += 1;
        *reset += counts.reset;
        *at_most += start.may_be_reset();
        if fault == SharedFault::PacketsLost {
            self.lost_packets.0 += counts.tried;
            self.lost_packets.1 += counts.tried - counts.ok - counts.reset;
        }
    }

    fn figures(&self, seed: u64) -> String {
        let own = self.by_own_fault.iter().map(|(name, (times, reset, at_most))| {
            format!("{times} with {name}: {reset} reset of {at_most} that were established at those instants")
        });
        format!(
            "{} starts (seed {seed}), {} connections: 0 refused, 0 timed out; {} pods were held and said the right reason, \
             {} ms after their agent was there at most; {}; of {} while packets were lost {} were answered that the server \
             cannot be reached; slowest {} ms",
            self.starts,
            self.tried,
            self.held,
            self.slowest_reason_ms,
            own.collect::<Vec<_>>().join(", "),
            self.lost_packets.0,
            self.lost_packets.1,
            self.slowest_ms
        )
    }
}
