use super::*;
use std::os::unix::fs::PermissionsExt;

use crate::scratch::Scratch;

/// Programs that behave as told, in a directory of their own.
struct Fake {
    scratch: Scratch,
    backend: Backend,
}

impl Fake {
    /// `check` and `restore` are shell; `restore` finds the rules in `$RULES`.
    fn new(name: &'static str, check: &str, restore: &str) -> Fake {
        let scratch = Scratch::new(name);
        let program: &'static str = scratch.path().join(name).to_string_lossy().into_owned().leak();
        let write = |path: String, body: String| {
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        write(program.to_owned(), check.to_owned());
        let log = scratch.path().join("log");
        write(format!("{program}-restore"), format!("RULES=$(cat); echo \"$RULES\" > {}; {restore}", log.display()));
        Fake { scratch, backend: Backend { name, v4: program, v6: program } }
    }

    fn rules(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }
}

const NO_MATCH: &str = "case \"$RULES\" in *socket*) echo \"Couldn't load match \\`socket'\" >&2; exit 2;; esac";

#[test]
fn the_first_program_that_can_is_used() {
    let broken = Fake::new("broken", "exit 1", "echo 'Operation not permitted' >&2; exit 4");
    let works = Fake::new("works", "exit 1", "exit 0");
    let installed = install(&Redirect::default(), Ipv6::Absent, &[broken.backend, works.backend]).unwrap();
    let in_force = InForce { family: Family::V4, backend: "works", was_there: false, without_hold: None };
    assert_eq!(installed.in_force, [in_force]);
    assert!(works.rules().contains("--syn -m socket"), "{}", works.rules());
    let text = installed.to_string();
    assert!(text.starts_with("redirection is in place (IPv4, by works)\n"), "{text}");
    assert!(text.ends_with("hold: connections wait while the proxy does not listen"), "{text}");
}

#[test]
fn what_is_there_is_not_installed_twice() {
    let there = Fake::new("there", "exit 0", "exit 0");
    let installed = install(&Redirect::default(), Ipv6::Absent, &[there.backend]).unwrap();
    assert!(installed.in_force[0].was_there);
    assert!(!there.rules().contains("-A OUTPUT") && !there.rules().contains("-I INPUT"), "{}", there.rules());
}

#[test]
fn a_kernel_without_the_match_gets_the_redirection_and_a_loud_word() {
    let fake = Fake::new("nomatch", "exit 1", NO_MATCH);
    let installed = install(&Redirect::default(), Ipv6::Absent, &[fake.backend]).unwrap();
    assert!(installed.without_hold().is_some());
    assert!(!fake.rules().contains("socket") && fake.rules().contains("REDIRECT"), "{}", fake.rules());
    let text = installed.to_string();
    assert!(text.contains("WARNING: no hold (IPv4)") && text.contains("Couldn't load match"), "{text}");
}

#[test]
fn nothing_that_works_is_an_error_with_every_word_that_was_said() {
    let refused = Fake::new("refused", "exit 1", "echo 'Permission denied (you must be root)' >&2; exit 4");
    let absent = Backend { name: "absent", v4: "/nowhere/iptables", v6: "/nowhere/ip6tables" };
    let error = install(&Redirect::default(), Ipv6::Absent, &[refused.backend, absent]).unwrap_err().to_string();
    for words in ["the pod must not start", "you must be root", "NET_ADMIN", "/nowhere/iptables: cannot be run"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_pod_with_ipv6_gets_rules_for_both_families() {
    let (v4, v6) = (Fake::new("v4", "exit 1", "exit 0"), Fake::new("v6", "exit 1", "exit 0"));
    let both = Backend { name: "both", v4: v4.backend.v4, v6: v6.backend.v4 };
    for (ipv6, count) in [(Ipv6::Absent, 1), (Ipv6::LinkLocal, 2), (Ipv6::Routable, 2)] {
        let installed = install(&Redirect::default(), ipv6, &[both]).unwrap();
        assert_eq!((installed.in_force.len(), installed.without_ipv6.clone()), (count, None), "{ipv6:?}");
    }
    assert!(v4.rules().contains("127.0.0.1/32") && v6.rules().contains("::1/128"), "{}", v6.rules());
    let text = install(&Redirect::default(), Ipv6::Routable, &[both]).unwrap().to_string();
    assert!(text.starts_with("redirection is in place (IPv4, by both; IPv6, by both)\n"), "{text}");
}

#[test]
fn without_rules_for_an_address_that_others_reach_the_pod_must_not_start() {
    let (v4, v6) = (Fake::new("only-v4", "exit 1", "exit 0"), Fake::new("no-v6", "exit 1", "echo no nat >&2; exit 4"));
    let backend = Backend { name: "half", v4: v4.backend.v4, v6: v6.backend.v4 };
    let error = install(&Redirect::default(), Ipv6::Routable, &[backend]).unwrap_err().to_string();
    assert!(error.contains("the pod must not start") && error.contains("no nat"), "{error}");
    let asked = Redirect { families: Families::DualStack, ..Redirect::default() };
    assert!(install(&asked, Ipv6::LinkLocal, &[backend]).is_err(), "who asks for it gets it or nothing");

    let installed = install(&Redirect::default(), Ipv6::LinkLocal, &[backend]).unwrap();
    assert_eq!(installed.in_force.len(), 1);
    let text = installed.to_string();
    assert!(text.contains("WARNING: no rules for IPv6") && text.contains("no nat"), "{text}");
    assert!(text.ends_with("hold: connections wait while the proxy does not listen"), "{text}");
}
