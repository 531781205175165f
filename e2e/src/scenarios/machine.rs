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
    let namespace = fs::read_link(format!("/proc/{runner}/ns/pid")).context("the runner runs")?;
    let started = processes_in(&namespace)?;
    ensure!(started > 3, "only {started} processes belong to the mesh");
    run(Path::new("kill"), &["-9", &runner.to_string()])?.success()?;
    wait_for("every process of the mesh is gone", || {
        let left = processes_in(&namespace)?;
        ensure!(left == 0 && !Path::new(&format!("/proc/{runner}")).exists(), "{left} processes are left");
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
    Ok(format!("{started} processes ended by the kernel"))
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

/// How many processes are in a PID namespace that is not nested deeper, or below the runner at all.
fn processes_in(namespace: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let path = entry?.path();
        let link = fs::read_link(path.join("ns/pid"));
        found += usize::from(link.is_ok_and(|l| l == namespace));
    }
    Ok(found)
}
