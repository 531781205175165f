//! The agent, or the whole sidecar, dies while the controller is down: what goes on, for how long, and what does not.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use nix::unistd::geteuid;
use osm_runtime::clock;
use osm_sidecar::last_good::{Content, LastGoodState};

use crate::lab::{DEADLINE, until};
use crate::resources::{complete, with_a_bad_listener, with_another_cluster, with_forbidden_routes};
use crate::sidecar::Sidecar;

/// From the start of the agent's process until it is programmed.
const PROMISE: Duration = Duration::from_secs(1);

const FROM_LAST_GOOD: &str = "programmed from the last good state";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_sidecar_goes_on_while_the_controller_is_down_and_follows_it_when_it_is_back() {
    let mut sidecar = Sidecar::programmed("goes-on", with_another_cluster).await;
    sidecar.controller.stop().await;
    let mut fastest = DEADLINE;
    for restart in 1..=3 {
        sidecar.kill();
        assert!(sidecar.request().await.is_err(), "nobody is there");
        let since = Instant::now();
        sidecar.start(&[], &[]);
        sidecar.until_served();
        let served = since.elapsed();
        sidecar.until_it_says(FROM_LAST_GOOD);
        let startup = sidecar.startup().await;
        let took = startup["programmed"].as_u64().unwrap() - startup["agentStarted"].as_u64().unwrap();
        record(&format!("restart {restart}: served after {served:?}, programmed after {took} ms"));
        fastest = fastest.min(Duration::from_millis(took)).min(DEADLINE);
        let address = sidecar.controller.address;
        until(DEADLINE, async || {
            sidecar.ready().await.contains(&format!("the controller is not reached: cannot reach {address}"))
        });
        let startup = sidecar.startup().await;
        assert!(startup["lastGoodRestored"].is_u64() && startup["firstResources"].is_null(), "{startup}");
        assert!(startup["identityIssued"].is_null() && startup["controllerConnected"].is_null(), "{startup}");
        let last_good = &startup["lastGood"];
        assert!(last_good["state"] == "inUse" && last_good["ageSeconds"].is_u64(), "{startup}");
        assert!(last_good["controller"].as_str().unwrap().contains("cannot reach"), "{startup}");
    }
    assert!(fastest < PROMISE, "{fastest:?}; the fastest of three, as the machine may be busy");
    assert!(sidecar.config_dump().await.contains("local|1"));

    let before = *sidecar.controller.certificates.issued.lock().unwrap();
    sidecar.controller.resume(Some(with_forbidden_routes(sidecar.ports))).await;
    let since = Instant::now();
    until(DEADLINE, async || sidecar.request().await.is_ok_and(|(status, _)| status == 403));
    record(&format!("revoked {:?} after the controller was back", since.elapsed()));
    sidecar.until_it_says("programmed\n");
    until(DEADLINE, async || !sidecar.config_dump().await.contains("local|1"));
    until(DEADLINE, async || sidecar.controller.is_settled());
    until(DEADLINE, async || *sidecar.controller.certificates.issued.lock().unwrap() > before);
    assert!(sidecar.startup().await["lastGood"].is_null());

    // What is revoked stays revoked.
    until(DEADLINE, async || !copy_of(&sidecar).contains("local|1"));
    sidecar.controller.stop().await;
    sidecar.kill();
    sidecar.start(&[], &[]);
    sidecar.until_it_says(FROM_LAST_GOOD);
    assert_eq!(sidecar.request().await.unwrap().0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_that_does_not_hold_beyond_doubt_is_ignored_and_the_gate_says_why() {
    let mut sidecar = Sidecar::programmed("doubt", complete).await;
    sidecar.controller.stop().await;
    sidecar.kill();
    let good = std::fs::read(sidecar.last_good()).unwrap();
    let mut check = |spoil: &dyn Fn(&Sidecar), settings: &[(&str, &str)], words: &str| {
        std::fs::write(sidecar.last_good(), &good).unwrap();
        spoil(&sidecar);
        sidecar.start(&[], settings);
        sidecar.until_it_says(&format!("the last good state is not used: {words}"));
        assert!(sidecar.log().contains("the last good state is not used"), "{}", sidecar.log());
        sidecar.kill();
    };
    let hours = |hours| clock::now().checked_sub(SignedDuration::from_hours(hours)).unwrap();
    let with = |change: fn(&mut LastGoodState)| move |sidecar: &Sidecar| sidecar.rewrite(change);
    check(&|s| s.rewrite(|state| state.confirmed = hours(25)), &[], "the controller last confirmed it at ");
    check(&|s| s.rewrite(|state| state.confirmed = hours(1)), &[("OSM_LAST_GOOD_SECONDS", "3600")], "the controller");
    check(&with(|state| expire(state, -1)), &[], "its certificate expired at ");
    check(&with(|state| state.holder.pod.service_account = "admin".into()), &[], "it is of pod shop/client-0 with ");
    check(&|_| (), &[("POD_UID", "uid-1")], "it is of pod shop/client-0 with uid ");
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:shop:admin"}"#));
    check(&|s| std::fs::write(s.token_file(), &token).unwrap(), &[], "it was kept for the token of ");
    std::fs::write(sidecar.token_file(), crate::controller::TOKEN).unwrap();
    let mut check = |spoiled: &[u8], words: &str| {
        std::fs::write(sidecar.last_good(), spoiled).unwrap();
        sidecar.start(&[], &[]);
        sidecar.until_it_says("the last good state is not used: ");
        sidecar.until_it_says(words);
        sidecar.kill();
    };
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    check(&damaged, "its checksum is wrong");
    check(&good[..good.len() - 1], "it should have ");
    check(b"", "it is not a last good state");

    // It was only ignored: with the controller back, all is as it should be.
    std::fs::write(sidecar.last_good(), damaged).unwrap();
    sidecar.start(&[], &[]);
    sidecar.controller.resume(Some(complete(sidecar.ports))).await;
    sidecar.until_it_says("programmed\n");
    sidecar.until_served();
    until(DEADLINE, async || osm_sidecar::last_good::decode(&std::fs::read(sidecar.last_good()).unwrap()).is_ok());

    sidecar.kill();
    sidecar.controller.stop().await;
    sidecar.start(&[], &[("OSM_LAST_GOOD_SECONDS", "0")]);
    sidecar.until_it_says("no configuration: ");
    assert!(!sidecar.last_good().exists(), "what is never to be used is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_time_of_a_last_good_state_ends_while_it_is_in_use() {
    for by_certificate in [true, false] {
        let mut sidecar = Sidecar::programmed("ends", complete).await;
        sidecar.controller.stop().await;
        sidecar.kill();
        sidecar.rewrite(|state| {
            if by_certificate {
                expire(state, 4);
            } else {
                state.confirmed = clock::now().checked_sub(SignedDuration::from_secs(3600 - 4)).unwrap();
            }
        });
        sidecar.start(&[], &[("OSM_LAST_GOOD_SECONDS", "3600")]);
        sidecar.until_it_says(FROM_LAST_GOOD);
        sidecar.until_served();
        sidecar.until_it_says("could be used until");
        // With the hold of the kernel, connections wait now.
        until(DEADLINE, async || sidecar.request().await.is_err());
        assert_eq!(sidecar.startup().await["lastGood"]["state"], "ended");
        sidecar.controller.resume(Some(complete(sidecar.ports))).await;
        sidecar.until_it_says("programmed\n");
        sidecar.until_served();
        until(DEADLINE, async || sidecar.controller.is_settled());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_envoy_refused_is_remembered_and_the_last_good_version_runs() {
    let mut sidecar = Sidecar::programmed("refused", complete).await;
    sidecar.controller.tell(with_a_bad_listener(sidecar.ports));
    until(DEADLINE, async || sidecar.startup().await["rejected"][0]["message"].to_string().contains("no_such_filter"));
    until(DEADLINE, async || copy_of(&sidecar).contains("refusal"));
    sidecar.controller.stop().await;
    sidecar.kill();
    sidecar.start(&[], &[]);
    sidecar.until_it_says(FROM_LAST_GOOD);
    sidecar.until_served();
    let startup = sidecar.startup().await;
    assert!(startup["rejected"][0]["message"].to_string().contains("no_such_filter"), "{startup}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_else_can_read_the_kept_key() {
    if !geteuid().is_root() {
        record("NOT RUN, needs root: nobody_else_can_read_the_kept_key");
        return;
    }
    let mut sidecar = Sidecar::prepare("other-reader", complete).await;
    let become_sidecar = ["setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", "--no-new-privs"];
    sidecar.start(&become_sidecar, &[]);
    sidecar.until_it_says("programmed\n");
    until(DEADLINE, async || sidecar.last_good().exists());
    let file = sidecar.last_good();
    let (directory, found) = (file.parent().unwrap().metadata().unwrap(), file.metadata().unwrap());
    assert_eq!((directory.mode() & 0o7777, directory.uid()), (0o700, 1500));
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, 1500));
    assert!(read_as(1500, &file).contains("PRIVATE KEY"));
    assert_eq!(read_as(1000, &file), "");
}

fn read_as(uid: u32, file: &Path) -> String {
    let output = Command::new("cat").arg(file).uid(uid).gid(uid).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has the certificate end in so many seconds.
fn expire(state: &mut LastGoodState, seconds: i64) {
    let Content { workload, copy, refusals } = &*state.content;
    let workload = osm_sidecar::identity::Workload {
        key_pem: workload.key_pem.clone(),
        chain_pem: workload.chain_pem.clone(),
        bundle_pem: workload.bundle_pem.clone(),
        issued: workload.issued,
        not_after: clock::now().checked_add(SignedDuration::from_secs(seconds)).unwrap(),
    };
    let (copy, refusals) = (copy.clone(), refusals.clone());
    state.content = Arc::new(Content { workload: Arc::new(workload), copy, refusals });
}

/// The kept configuration by name, and `refusal` for each refusal.
fn copy_of(sidecar: &Sidecar) -> String {
    let state = osm_sidecar::last_good::decode(&std::fs::read(sidecar.last_good()).unwrap()).unwrap();
    let names = state.content.copy.iter().map(|(_, resource)| resource.name.clone());
    names.chain(state.content.refusals.iter().map(|_| "refusal".to_owned())).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::print_stderr, reason = "the measured times are for who runs the tests")]
fn record(line: &str) {
    eprintln!("{line}");
}
