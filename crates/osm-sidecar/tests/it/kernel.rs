//! `init` with the real kernel, in a network namespace of its own. Needs root; without it the line that is printed
//! says so.

use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use osm_redirect::Redirect;
use osm_sidecar::init::{BACKENDS, install};

#[test]
fn a_second_init_finds_everything_in_place() {
    if !geteuid().is_root() {
        say("NOT RUN, needs root: a_second_init_finds_everything_in_place");
        return;
    }
    let tried = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for backend in BACKENDS {
            let redirect = Redirect::default();
            let first = install(&redirect, &[backend]).unwrap();
            let again = install(&redirect, &[backend]).unwrap();
            assert_eq!((again.was_there, again.without_hold), (true, None), "{}", backend.name);
            // The third program is one of the two before it.
            assert_eq!(first.was_there, backend == BACKENDS[2], "{}", backend.name);
        }
    });
    tried.join().unwrap();
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output must see what was not tried")]
fn say(line: &str) {
    eprintln!("{line}");
}
