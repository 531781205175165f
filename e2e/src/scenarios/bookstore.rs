//! The bookstore of OSM's users: permissive mode, SMI mode, and the way from one to the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::Choice;
use crate::lab::{Lab, LoadCounts, wait_for};

/// The files of `examples/bookstore`, as a user applies them.
const MANIFESTS: &[&str] = &[
    include_str!("../../../examples/bookstore/namespaces.yaml"),
    include_str!("../../../examples/bookstore/bookwarehouse.yaml"),
    include_str!("../../../examples/bookstore/bookstore.yaml"),
    include_str!("../../../examples/bookstore/bookbuyer.yaml"),
    include_str!("../../../examples/bookstore/bookthief.yaml"),
    include_str!("../../../examples/bookstore/policies.yaml"),
];
const PERMISSIVE: &str = include_str!("../../../examples/bookstore/mesh-config-permissive.yaml");
const SMI: &str = include_str!("../../../examples/bookstore/mesh-config-smi.yaml");

const BUY: &str = "http://bookstore.bookstore:14001/buy-a-book/new";

/// Seconds of load; each switch of the mode takes a good part of one.
const LOAD_SECONDS: u32 = 10;
const LOAD_RATE: u32 = 100;

/// What bookbuyer and bookthief say of their requests so far.
#[derive(Debug, Deserialize)]
struct Ledger {
    succeeded: u64,
    failed: u64,
    by_status: BTreeMap<u16, u64>,
    last_failure: Option<String>,
}

pub(super) fn the_bookstore_in_both_modes(choice: &Choice) -> Result<String> {
    let lab = open_bookstore(choice)?;
    both_buy(&lab)?;
    let buyer = Ledger::of(&lab, "bookbuyer")?;

    lab.apply(SMI)?;
    only_the_buyer_buys(&lab)?;
    lab.apply(PERMISSIVE)?;
    both_buy(&lab)?;

    let after = Ledger::of(&lab, "bookbuyer")?;
    ensure!(after.failed == buyer.failed, "the bookbuyer failed in between, last as {:?}", after.last_failure);
    Ok(format!("{} requests of the bookbuyer, 0 failed", after.succeeded - buyer.succeeded))
}

pub(super) fn switching_the_mode_fails_nothing(choice: &Choice) -> Result<String> {
    let lab = open_bookstore(choice)?;
    both_buy(&lab)?;
    let buyer = Ledger::of(&lab, "bookbuyer")?;

    let pod = lab.pod_of("bookbuyer/bookbuyer")?;
    let mut load = lab.pod(&pod).load(BUY, LOAD_RATE, LOAD_SECONDS)?;
    let keep = lab.pod(&pod).demo_in_background(&["keep", BUY, "--seconds", &LOAD_SECONDS.to_string()])?;
    let mut switches = 0;
    while !load.has_ended()? {
        lab.apply(SMI)?;
        only_the_buyer_buys(&lab)?;
        lab.apply(PERMISSIVE)?;
        both_buy(&lab)?;
        switches += 2;
    }
    keep.finish()?.success().context("the connection that was open all the time")?;
    let counts = LoadCounts::of(load)?;
    ensure!(switches >= 4, "the mode was switched only {switches} times under load");
    ensure!(counts.tried >= u64::from(LOAD_RATE * LOAD_SECONDS) / 2, "too little load to prove anything: {counts:?}");
    ensure!(counts.ok == counts.tried, "after {switches} switches: {counts:?}");
    let after = Ledger::of(&lab, "bookbuyer")?;
    ensure!(after.failed == buyer.failed, "the bookbuyer failed in between, last as {:?}", after.last_failure);
    Ok(format!(
        "{switches} switches, {} requests of a load, {} of the bookbuyer: 0 failed, slowest {} ms",
        counts.tried,
        after.succeeded - buyer.succeeded,
        counts.slowest_ms
    ))
}

/// The bookstore in permissive mode, with buyers that make ten visits a second.
fn open_bookstore(choice: &Choice) -> Result<Lab> {
    let manifests = [MANIFESTS, &[PERMISSIVE]].concat().join("\n---\n");
    Lab::up(choice, &manifests.replace("value: \"1\"", "value: \"0.1\""))
}

fn both_buy(lab: &Lab) -> Result<()> {
    let (thief, buyer) = (Ledger::of(lab, "bookthief")?, Ledger::of(lab, "bookbuyer")?);
    wait_for("bookbuyer and bookthief buy", || {
        let (thief_now, buyer_now) = (Ledger::of(lab, "bookthief")?, Ledger::of(lab, "bookbuyer")?);
        ensure!(thief_now.succeeded >= thief.succeeded + 2, "the bookthief does not: {thief_now:?}");
        ensure!(buyer_now.succeeded >= buyer.succeeded + 2, "the bookbuyer does not: {buyer_now:?}");
        Ok(())
    })
}

fn only_the_buyer_buys(lab: &Lab) -> Result<()> {
    let (thief, buyer) = (Ledger::of(lab, "bookthief")?, Ledger::of(lab, "bookbuyer")?);
    wait_for("the bookthief gets 403 and the bookbuyer buys", || {
        let (thief_now, buyer_now) = (Ledger::of(lab, "bookthief")?, Ledger::of(lab, "bookbuyer")?);
        ensure!(thief_now.denied() >= thief.denied() + 2, "the bookthief does not: {thief_now:?}");
        ensure!(buyer_now.succeeded >= buyer.succeeded + 2, "the bookbuyer does not: {buyer_now:?}");
        Ok(())
    })?;
    // From the first refusal on, nothing is let through.
    let before = Ledger::of(lab, "bookthief")?;
    let after = wait_for("the bookthief has tried again", || {
        let now = Ledger::of(lab, "bookthief")?;
        ensure!(now.denied() >= before.denied() + 2, "it does not: {now:?}");
        Ok(now)
    })?;
    ensure!(after.succeeded == before.succeeded, "the bookthief was let through by one proxy: {after:?}");
    Ok(())
}

impl Ledger {
    fn of(lab: &Lab, who: &str) -> Result<Ledger> {
        let pod = lab.pod_of(&format!("{who}/{who}"))?;
        let said = lab.pod(&pod).get("http://127.0.0.1:14001/counters")?;
        serde_json::from_str(&said).with_context(|| format!("reading the counts of {who} in {said}"))
    }

    fn denied(&self) -> u64 {
        self.by_status.get(&403).copied().unwrap_or_default()
    }
}
