//! Whether Envoy's workers carry connections, asked through the very threads that do: the agent holds one connection to
//! each worker open, on a Unix socket, and each must send back a byte ten times a second.
//!
//! Envoy's admin interface is answered by the main thread, which says nothing of the workers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::EnvoyConfig;
use crate::park::Programmed;
use crate::state_dir::StateDir;
use crate::stillness::{BEAT, Stillness};

/// An Envoy none of whose threads has run or wanted to for so many beats, though one was asked to answer, is stopped or
/// locked up: being slow looks different.
const STILL_BEATS: u32 = 3;

/// After connecting has failed, though Envoy is programmed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the pulse needs.
#[derive(Debug)]
pub struct Pulse {
    /// Where Envoy sends back what it hears.
    socket: PathBuf,
    /// Envoy's worker threads.
    workers: u16,
    /// A worker that does not answer for so long is hung, however busy Envoy is; `None` means that nobody is.
    hung_after: Option<Duration>,
    /// The run to watch.
    programmed: watch::Receiver<Option<Programmed>>,
    /// Where runs are reported that do not answer any more.
    hung: mpsc::Sender<u64>,
}

/// The connection to one worker.
struct Beat {
    stream: UnixStream,
    /// Beats since it was asked; none if it has answered.
    missed: Option<u32>,
}

impl Pulse {
    /// The pulse of this Envoy.
    pub fn new(
        state_dir: &StateDir,
        envoy: &EnvoyConfig,
        programmed: watch::Receiver<Option<Programmed>>,
        hung: mpsc::Sender<u64>,
    ) -> Pulse {
        let EnvoyConfig { concurrency: workers, hung_after, .. } = *envoy;
        Pulse { socket: state_dir.pulse_socket(), workers, hung_after, programmed, hung }
    }

    /// Watches each run until it has ended or is hung; until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(hung_after) = self.hung_after else {
            stop.cancelled().await;
            return Ok(());
        };
        let busy_beats = u32::try_from(hung_after.as_millis() / BEAT.as_millis()).unwrap_or(u32::MAX).max(STILL_BEATS);
        let mut programmed = self.programmed.clone();
        loop {
            let present = *programmed.borrow_and_update();
            let watched = async {
                let Some(Programmed { run, pid }) = present else { return std::future::pending().await };
                loop {
                    match self.until_silent(pid, busy_beats).await {
                        Ok(silence) => break (run, silence),
                        // It has died, which the supervisor sees too, or has not come to listen yet.
                        Err(_) => sleep(RETRY_INTERVAL).await,
                    }
                }
            };
            tokio::select! {
                (run, silence) = watched => {
                    tracing::warn!(run, silence, "Envoy is hung");
                    let _ = self.hung.send(run).await;
                    tokio::select! {
                        _ = programmed.changed() => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
                _ = programmed.changed() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Comes back with what the silence is like, or an error when Envoy has closed a connection.
    async fn until_silent(&self, pid: u32, busy_beats: u32) -> io::Result<&'static str> {
        // All at once, before any is used: so each worker gets one.
        let mut beats = Vec::new();
        for _ in 0..self.workers {
            beats.push(Beat { stream: UnixStream::connect(&self.socket).await?, missed: None });
        }
        let mut stillness = Stillness::default();
        loop {
            let mut longest = 0;
            for beat in &mut beats {
                longest = longest.max(beat.beat()?);
            }
            if longest == 0 {
                stillness = Stillness::default();
            } else if stillness.look(pid) >= STILL_BEATS {
                return Ok("none of its threads runs, and its workers do not answer");
            }
            if longest >= busy_beats {
                return Ok("a worker does not answer, though other threads run");
            }
            sleep(BEAT).await;
        }
    }
}

impl Beat {
    /// Takes the answer, asks again, and says how many beats the answer is late.
    fn beat(&mut self) -> io::Result<u32> {
        let mut answer = [0; 8];
        match self.stream.try_read(&mut answer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => self.missed = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        match &mut self.missed {
            Some(missed) => *missed += 1,
            None => {
                self.stream.try_write(&[0])?;
                self.missed = Some(0);
            }
        }
        Ok(self.missed.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
