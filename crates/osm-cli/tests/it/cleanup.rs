//! Nothing is left, however a runner ends.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_testkit::eventually;

use crate::lab::{DEADLINE, Lab, lab, pod, server, web_service};

/// A word in the command line of every process that the test starts.
fn marked(lab: &Lab) -> String {
    pod("marked", "", &format!("[sh, -c, 'sleep infinity; : {}']", lab.name))
}

fn processes_with(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}

fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap()
    };
    // Other tests have runners of their own; what they have is theirs alone, so nothing of it can be here.
    [
        output("ip", &["-o", "link"]),
        output("ip", &["netns", "list"]),
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        output("iptables-save", &[]).lines().filter(|line| !line.starts_with('#')).collect(),
    ]
    .concat()
}

fn runner_pid(lab: &Lab) -> i32 {
    lab.status()["pid"].as_i64().unwrap().try_into().unwrap()
}

#[test]
fn kill_9_of_the_runner_leaves_nothing_and_the_next_one_starts() {
    let Some(lab) = lab() else { return };
    let before = machine();
    let manifests = [server("server"), web_service("web", ""), marked(&lab)].concat();
    lab.up(&manifests);
    assert_eq!(machine(), before, "while the runner is up");
    assert!(processes_with(&lab.name).len() >= 3, "{:?}", processes_with(&lab.name));
    let runner = runner_pid(&lab);
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    eventually(DEADLINE, || match processes_with(&lab.name) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(machine(), before, "after the kill");
    let file = lab.file("again.yaml", &manifests);
    lab.done("up", &["-f", &file, "--timeout", "30s"]);
    assert_ne!(runner_pid(&lab), runner);
    kill(Pid::from_raw(runner_pid(&lab)), Signal::SIGKILL).unwrap();
    eventually(DEADLINE, || processes_with(&lab.name).is_empty());
    lab.done("down", &[]);
    assert!(!Path::new("/run/osm-local").join(&lab.name).exists());
}

#[test]
fn down_returns_when_everything_is_gone() {
    let Some(lab) = lab() else { return };
    let before = machine();
    // One that would take half a minute to end if it were asked, and an exec that is under way.
    lab.up(&[marked(&lab), server("server")].concat());
    let mut exec = Command::new(env!("CARGO_BIN_EXE_osm"))
        .args(["local", "exec", "--name", &lab.name, "marked", "--", "sleep", "1000"])
        .spawn()
        .unwrap();
    eventually(DEADLINE, || processes_with("sleep 1000").iter().any(|line| line == "sleep 1000 "));
    lab.done("down", &[]);
    exec.wait().unwrap();
    assert_eq!(processes_with(&lab.name), Vec::<String>::new());
    assert_eq!(processes_with("sleep 1000"), Vec::<String>::new());
    assert!(!Path::new("/run/osm-local").join(&lab.name).exists());
    assert_eq!(machine(), before);
}
