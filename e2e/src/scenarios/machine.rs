//! What the runner leaves on the machine: nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::manifests::shop;
use crate::Choice;
use crate::lab::{Lab, binary, run, wait_for};

/// Commands whose output must be the same before and after.
const LOOKS: &[(&str, &[&str])] = &[
    ("iptables-nft-save", &[]),
    ("iptables-legacy-save", &[]),
    ("ip6tables-nft-save", &[]),
    ("ip", &["-o", "link"]),
    ("ip", &["-o", "address"]),
    ("ip", &["netns", "list"]),
    ("cat", &["/proc/self/mountinfo"]),
    ("cat", &["/etc/resolv.conf"]),
];

pub(super) fn the_machine_stays_as_it_was(choice: &Choice) -> Result<String> {
    let before = look()?;
    {
        let lab = Lab::up(choice, &shop())?;
        lab.wait_ready("shop/server")?;
        lab.wait_ready("shop/client")?;
        wait_for("the server answers", || lab.pod("shop/client").get("http://server.shop/"))?;
        ensure!(
            look()? == before,
            "the machine is not the same while the mesh is up:\n{}",
            difference(&before, &look()?)
        );
    }
    let after = look()?;
    ensure!(after == before, "the machine is not the same after the mesh:\n{}", difference(&before, &after));
    Ok(format!("{} looks compared, up and down", LOOKS.len()))
}

pub(super) fn a_killed_runner_leaves_nothing(choice: &Choice) -> Result<String> {
    let before = look()?;
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    let file = Path::new("/run/osm-local").join(lab.name()).join("runner.json");
    let about: serde_json::Value = serde_json::from_slice(&fs::read(&file).context("reading runner.json")?)?;
    let runner = about["pid"].as_u64().context("runner.json holds the runner's process number")?;
    let started = descendants(runner)?;
    ensure!(started.len() > 6, "only {} processes belong to the mesh", started.len());
    run(Path::new("kill"), &["-9", &runner.to_string()])?.success()?;
    wait_for("every process of the mesh is gone", || {
        let left: Vec<_> = started.iter().filter(|process| process.is_alive()).collect();
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })?;
    let after = look()?;
    ensure!(after == before, "the machine is not the same after the kill:\n{}", difference(&before, &after));
    let name = lab.name().to_owned();
    drop(lab);
    let again = run(&binary("osm")?, &["local", "up", "--name", &name, "--timeout", "60s"])?;
    again.success().context("the same name comes up again after the kill")?;
    run(&binary("osm")?, &["local", "down", "--name", &name])?.success()?;
    ensure!(!file.exists(), "{} is left", file.display());
    Ok(format!("{} processes ended by the kernel", started.len()))
}

fn look() -> Result<Vec<String>> {
    LOOKS
        .iter()
        .map(|(program, arguments)| {
            let text = run(Path::new(program), arguments)?.success()?;
            // Counters and dates move on their own.
            Ok(text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
        })
        .collect()
}

fn difference(before: &[String], after: &[String]) -> String {
    let pairs = LOOKS.iter().zip(before.iter().zip(after)).filter(|(_, (b, a))| b != a);
    pairs.map(|((program, _), (b, a))| format!("--- {program} before\n{b}--- {program} after\n{a}")).collect()
}

/// A process, told apart from a later one of the same number by its start time.
#[derive(Debug)]
struct Process {
    number: u64,
    parent: u64,
    started: String,
}

impl Process {
    /// What /proc/NUMBER/stat says; see proc(5).
    fn of(number: u64) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        // The name, in parentheses, may hold spaces.
        let words: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let is_zombie = words[0] == "Z";
        let process = Process { number, parent: words[1].parse().ok()?, started: words[19].to_owned() };
        (!is_zombie).then_some(process)
    }

    fn is_alive(&self) -> bool {
        Process::of(self.number).is_some_and(|now| now.started == self.started)
    }
}

/// The process and all that it started, directly or not.
fn descendants(root: u64) -> Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        all.extend(name.to_string_lossy().parse().ok().and_then(Process::of));
    }
    let mut found: Vec<Process> = Process::of(root).into_iter().collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].number;
        let (children, others) = all.into_iter().partition(|process| process.parent == parent);
        found.extend::<Vec<Process>>(children);
        all = others;
        next += 1;
    }
    Ok(found)
}
