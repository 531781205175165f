//! `init` with the real kernel, in a network namespace of its own. Needs root; without it the line that is printed
//! says so.

use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use osm_redirect::Redirect;
use osm_sidecar::init::{BACKENDS, install, let_listeners_inherit};
use osm_sidecar::ipv6::Ipv6;

#[test]
fn a_second_init_finds_everything_in_place() {
    if !geteuid().is_root() {
        say("NOT RUN, needs root: a_second_init_finds_everything_in_place");
        return;
    }
    let tried = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for backend in BACKENDS {
            let install = || install(&Redirect::default(), Ipv6::Routable, &[backend]).unwrap().in_force;
            let (first, again) = (install(), install());
            assert_eq!(first.len(), 2, "{}", backend.name);
            for (first, again) in first.into_iter().zip(again) {
                assert_eq!((again.was_there, again.without_hold), (true, None), "{}", backend.name);
                // The third program is one of the two before it.
                assert_eq!(first.was_there, backend == BACKENDS[2], "{}", backend.name);
            }
        }
    });
    tried.join().unwrap();
}

#[test]
fn init_works_on_a_read_only_root() {
    if !geteuid().is_root() {
        say("NOT RUN, needs root: init_works_on_a_read_only_root");
        return;
    }
    let tried = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // As in a container that has no lock file yet and cannot make one.
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
        for backend in BACKENDS {
            let installed = install(&Redirect::default(), Ipv6::Routable, &[backend]).unwrap();
            assert_eq!(installed.without_hold(), None, "{}", backend.name);
        }
    });
    tried.join().unwrap();
}

#[test]
fn queues_are_inherited_where_the_kernel_lets_itself_be_told() {
    if !geteuid().is_root() {
        say("NOT RUN, needs root: queues_are_inherited_where_the_kernel_lets_itself_be_told");
        return;
    }
    let tried = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let setting = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
        let Ok(before) = setting() else { return say("NOT RUN, needs Linux 5.14: queues_are_inherited_...") };
        let_listeners_inherit();
        assert_eq!((before.trim(), setting().unwrap().trim()), ("0", "1"));
    });
    tried.join().unwrap();
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output must see what was not tried")]
fn say(line: &str) {
    eprintln!("{line}");
}
