use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::scratch::Scratch;
use crate::stillness::is_running;

/// Sends back what it hears on the first `answering` connections, and nothing on those after them.
fn echo(listener: UnixListener, answering: usize) {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if kept.len() < answering {
                kept.push(None);
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
                });
            } else {
                kept.push(Some(stream));
            }
        }
    });
}

fn pulse(scratch: &Scratch, pid: u32) -> (Pulse, mpsc::Receiver<u64>, watch::Sender<Option<Programmed>>) {
    let (publish, programmed) = watch::channel(Some(Programmed { run: 7, pid }));
    let (hung, reports) = mpsc::channel(1);
    let (workers, hung_after) = (2, Some(Duration::from_secs(2)));
    let socket = scratch.path().join("pulse.sock");
    (Pulse { socket, workers, hung_after, programmed, hung }, reports, publish)
}

/// A process that does nothing, or nothing but work.
fn stand_in(command: &[&str]) -> Child {
    Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).spawn().unwrap()
}

/// What is reported while a process stands in for Envoy.
async fn reported(name: &str, answering: usize, command: &[&str], is_stopped: bool, beats: u32) -> Option<u64> {
    let scratch = Scratch::new(name);
    let mut envoy = stand_in(command);
    if is_stopped {
        kill(Pid::from_raw(i32::try_from(envoy.id()).unwrap()), Signal::SIGSTOP).unwrap();
        eventually(Duration::from_secs(5), || !is_running(Path::new(&format!("/proc/{}", envoy.id()))));
    }
    echo(UnixListener::bind(scratch.path().join("pulse.sock")).unwrap(), answering);
    let (pulse, mut reports, _publish) = pulse(&scratch, envoy.id());
    let stop = CancellationToken::new();
    let running = tokio::spawn(pulse.run(stop.clone()));
    let report = tokio::time::timeout(BEAT * beats, reports.recv()).await.ok().flatten();
    stop.cancel();
    running.await.unwrap().unwrap();
    envoy.kill().unwrap();
    envoy.wait().unwrap();
    report
}

#[tokio::test]
async fn whoever_answers_is_left_alone() {
    assert_eq!(reported("pulse-answers", 2, &["sleep", "1000"], true, 8).await, None);
}

#[tokio::test]
async fn a_stopped_process_is_hung_soon() {
    assert_eq!(reported("pulse-stopped", 0, &["sleep", "1000"], true, 15).await, Some(7));
}

#[tokio::test]
async fn one_silent_worker_is_enough_and_a_busy_process_gets_more_time() {
    let works = &["sh", "-c", "while :; do :; done"];
    assert_eq!(reported("pulse-busy", 1, works, false, 10).await, None);
    assert_eq!(reported("pulse-silent", 1, works, false, 60).await, Some(7));
}
