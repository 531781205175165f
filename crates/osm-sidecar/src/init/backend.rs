//! The programs that put rules into the kernel, and what their complaints mean.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use osm_redirect::{Family, Jump, Redirect, jumps, rules_for};

/// The kernel's two packet filters, the newer one first, and what an image may call either.
pub const BACKENDS: [Backend; 3] = [
    Backend { name: "iptables-nft", v4: "iptables-nft", v6: "ip6tables-nft" },
    Backend { name: "iptables-legacy", v4: "iptables-legacy", v6: "ip6tables-legacy" },
    Backend { name: "iptables", v4: "iptables", v6: "ip6tables" },
];

/// Has iptables-legacy lock another file than `/run/xtables.lock`, which it would have to create (measured: 1.8.9).
const LOCK_FILE_VARIABLE: &str = "XTABLES_LOCKFILE";

/// There in every container, also with a read-only root. The lock would keep nobody out anyway: whoever else could change
/// the rules of this network namespace has a `/run` of their own.
const LOCK_FILE: &str = "/dev/null";

/// One packet filter's programs. Each has a companion whose name ends in `-restore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What it is called in the log.
    pub name: &'static str,
    /// The program for IPv4.
    pub v4: &'static str,
    /// The program for IPv6.
    pub v6: &'static str,
}

/// A program that did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program}: {said}{}", hint(.said).map(|hint| format!("\nhint: {hint}")).unwrap_or_default())]
pub struct Failure {
    /// Which.
    pub program: String,
    /// What it said, in full, or why it could not be run.
    pub said: String,
}

impl Backend {
    /// Puts the rules of a family in force; whether all jumps to them were there before.
    pub(super) fn install(&self, redirect: &Redirect, family: Family) -> Result<bool, Failure> {
        let program = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        install_with(program, redirect, family)
    }
}

fn install_with(program: &str, redirect: &Redirect, family: Family) -> Result<bool, Failure> {
    let wanted = jumps(redirect);
    let mut installed: Vec<Jump> = Vec::new();
    for jump in &wanted {
        let output = run(program, &jump.check_args(), "")?;
        if output.status.success() {
            installed.push(*jump);
        }
    }
    let restore = format!("{program}-restore");
    let output = run(&restore, &["--noflush".to_owned()], &rules_for(redirect, family, &installed))?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        let said = format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim());
        return Err(Failure { program: restore, said });
    }
    Ok(installed.len() == wanted.len())
}

fn run(program: &str, args: &[String], input: &str) -> Result<Output, Failure> {
    let run = || -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(LOCK_FILE_VARIABLE, LOCK_FILE);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()) {
                // It refused before it had read everything; its exit status tells.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written?,
            }
        }
        child.wait_with_output()
    };
    run().map_err(|error| Failure { program: program.to_owned(), said: format!("cannot be run: {error}") })
}

/// What to do about a complaint of iptables or of its kernel.
fn hint(said: &str) -> Option<&'static str> {
    let said = said.to_ascii_lowercase();
    let hints = [
        ("you must be root", NET_ADMIN),
        ("operation not permitted", NET_ADMIN),
        ("permission denied", NET_ADMIN),
        (
            "couldn't load match",
            "this image lacks an extension of iptables; use the image that belongs to this release",
        ),
        ("extension", "the node's kernel lacks a module; load xt_socket, xt_REDIRECT, xt_owner and xt_multiport there"),
        ("table does not exist", "the node's kernel lacks a module; load iptable_nat and iptable_filter there"),
        (
            "protocol not supported",
            "the node's kernel has no nf_tables; load that module, or iptable_nat and iptable_filter",
        ),
        ("no such file or directory", "this program is not in the image; it is one of several that are tried"),
    ];
    hints.into_iter().find(|(words, _)| said.contains(words)).map(|(_, hint)| hint)
}

const NET_ADMIN: &str = "the init container needs the capabilities NET_ADMIN and NET_RAW and uid 0; a pod security \
                         standard stricter than `privileged` takes them away";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_say_what_to_do_next() {
        let check = |said: &str, word: &str| assert!(hint(said).is_some_and(|hint| hint.contains(word)), "{said}");
        check("Could not fetch rule set generation id: Permission denied (you must be root)", "NET_ADMIN");
        check("Fatal: can't open lock file /run/xtables.lock: Permission denied", "NET_ADMIN");
        check("Couldn't load match `socket':No such file or directory", "image lacks");
        check("Warning: Extension socket revision 0 not supported, missing kernel module?", "xt_socket");
        check("iptables-restore: unable to initialize table 'nat': Table does not exist", "iptable_nat");
        check("Failed to initialize nft: Protocol not supported", "nf_tables");
        assert_eq!(hint("line 3 failed"), None);
    }
}
