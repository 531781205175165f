//! A network namespace of one test. It has no name, and the kernel removes it with its last thread and process.

use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getpid, gettid};

/// Runs `test` on a thread of its own in a new namespace whose loopback interface is up.
///
/// Without root nothing of this can be tried: the line that is printed then says so.
pub(crate) fn within(name: &str, test: impl FnOnce() + Send + 'static) {
    if !Uid::effective().is_root() {
        say(&format!("NOT RUN, needs root: {name}"));
        return;
    }
    let done = thread::Builder::new().name(name.to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", "link set lo up");
        test();
    });
    if let Err(panic) = done.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Another host: a second namespace with `10.99.0.2/24`, joined to the caller's own, which gets `10.99.0.1/24` and
/// its default route there. The host runs `service` until the test ends.
pub(crate) fn with_neighbour(service: impl FnOnce() + Send + 'static) {
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(gettid()).unwrap();
        // The other end of the link arrives from outside.
        osm_testkit::eventually(std::time::Duration::from_secs(10), || {
            Command::new("ip").args(["link", "show", "osm-b"]).output().unwrap().status.success()
        });
        run("ip", "link set lo up");
        run("ip", "addr add 10.99.0.2/24 dev osm-b");
        run("ip", "link set osm-b up");
        run("ip", "route add default via 10.99.0.1");
        ready.send(gettid()).unwrap();
        service();
    });
    let neighbour = wait.recv().unwrap();
    run("ip", &format!("link add osm-a type veth peer name osm-b netns /proc/{}/task/{neighbour}/ns/net", getpid()));
    run("ip", "addr add 10.99.0.1/24 dev osm-a");
    run("ip", "link set osm-a up");
    run("ip", "route add default via 10.99.0.2");
    wait.recv().unwrap();
}

/// Runs a program in the caller's namespace and gives back what it wrote.
pub(crate) fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    written(&format!("{program} {args}"), output)
}

/// What a program wrote, if it succeeded.
pub(crate) fn written(what: &str, output: Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output must see what was not tried")]
fn say(line: &str) {
    eprintln!("{line}");
}
