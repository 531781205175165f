//! Connections that come before Envoy, and while there is none, with the real Envoy.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_runtime::http::{Limits, get_tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::{DEADLINE, Lab, text, until};
use crate::resources::complete;

/// Long before anything else than the agent could have taken a connection: the kernel repeats a handshake after a second.
const AT_ONCE: Duration = Duration::from_millis(500);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n";

/// Connects at once, says its request, and is answered some time.
async fn ask(port: u16) -> Result<String, String> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    if start.elapsed() > AT_ONCE {
        return Err(format!("connect() took {:?}", start.elapsed()));
    }
    stream.write_all(REQUEST).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    let read = timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    read.map_err(|_| "there is no answer".to_owned())?.map_err(|error| error.to_string())?;
    if answer.ends_with("hello") { Ok(answer) } else { Err(format!("it answered {answer:?}")) }
}

/// Twenty at once.
fn ask_often(port: u16) -> JoinSet<Result<String, String>> {
    (0..20).map(|_| ask(port)).collect()
}

async fn all_are_answered(asked: JoinSet<Result<String, String>>) {
    let failed: Vec<String> = asked.join_all().await.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed, Vec::<String>::new());
}

async fn metric(lab: &Lab, name: &str) -> u64 {
    let page = get_tcp(lab.metrics, "/stats/prometheus", Limits::default()).await.unwrap();
    let page = text(&page);
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("there is no {name} in\n{page}"))
}

async fn waiting(lab: &Lab, direction: &str) -> u64 {
    lab.startup().await["parked"][direction]["waiting"].as_u64().unwrap()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Stops a process, and waits until none of its threads can accept a connection any more.
fn stop(pid: i32) {
    signal(pid, Signal::SIGSTOP);
    let is_stopped = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    osm_testkit::eventually(DEADLINE, || threads().all(is_stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_come_before_envoy_is_programmed_are_taken_at_once_and_served_later() {
    let lab = Lab::start(|_| None).await;
    lab.until_it_waits_for("has not sent this pod's configuration yet");
    let asked = ask_often(lab.ports.outbound);
    let inbound = TcpStream::connect(("127.0.0.1", lab.ports.inbound)).await.unwrap();
    until(DEADLINE, async || waiting(&lab, "outbound").await == 20 && waiting(&lab, "inbound").await == 1);
    lab.controller.tell(complete(lab.ports));
    all_are_answered(asked).await;
    drop(inbound);
    until(DEADLINE, async || metric(&lab, "osm_sidecar_hand_overs_total{direction=\"outbound\"}").await == 1);
    let accepted = metric(&lab, "osm_sidecar_accepted_connections_total{direction=\"outbound\"}").await;
    all_are_answered(ask_often(lab.ports.outbound)).await;
    let accepted_now = metric(&lab, "osm_sidecar_accepted_connections_total{direction=\"outbound\"}").await;
    assert_eq!(accepted_now, accepted, "once it is handed over, Envoy takes connections itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_envoy_had_in_its_queue_and_what_comes_after_it_is_served_by_the_next_one() {
    let lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    for _ in 0..3 {
        until(DEADLINE, async || lab.startup().await["parked"]["outbound"]["isHandedOver"] == true);
        until(DEADLINE, async || lab.startup().await["parked"]["inbound"]["isHandedOver"] == true);
        let killed = lab.envoy_pid();
        stop(killed);
        let before = ask_often(lab.ports.outbound);
        signal(killed, Signal::SIGKILL);
        let after = ask_often(lab.ports.outbound);
        all_are_answered(before).await;
        all_are_answered(after).await;
        lab.until_programmed();
    }
    assert!(metric(&lab, "osm_sidecar_listeners_taken_over_total{direction=\"outbound\"}").await >= 2);
    assert_eq!(metric(&lab, "osm_sidecar_envoy_restarts_total").await, 3);
    assert_eq!(metric(&lab, "osm_sidecar_envoy_hangs_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_envoy_that_stands_still_is_replaced_before_anybody_gives_up() {
    let settings = |config: &mut osm_sidecar::Config| config.envoy.hung_after = Some(Duration::from_secs(10));
    let lab = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    lab.until_programmed();
    until(DEADLINE, async || metric(&lab, "osm_sidecar_hand_overs_total{direction=\"outbound\"}").await == 1);
    let (stopped, since) = (lab.envoy_pid(), Instant::now());
    stop(stopped);
    all_are_answered(ask_often(lab.ports.outbound)).await;
    assert!(since.elapsed() < Duration::from_secs(8), "that is the admin interface's silence: {:?}", since.elapsed());
    assert_eq!(metric(&lab, "osm_sidecar_envoy_hangs_total").await, 1);
    let reason = lab.startup().await["envoyRestarts"][0]["reason"].to_string();
    assert!(reason.contains("did not answer and was killed by signal 9"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_envoy_that_stands_still_before_it_is_programmed_is_replaced() {
    let settings = |config: &mut osm_sidecar::Config| config.envoy.hung_after = Some(Duration::from_secs(600));
    let lab = Lab::start_with(|_| None, settings).await;
    let first = until(DEADLINE, async || lab.envoys().first().copied().ok_or("there is no Envoy yet"));
    stop(first);
    until(DEADLINE, async || lab.envoys().iter().any(|pid| *pid != first));
    assert_eq!(metric(&lab, "osm_sidecar_envoy_hangs_total").await, 1);
}
