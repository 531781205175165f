//! Envoy's process: started, started again when it dies, and stopped gently.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_runtime::{chance, clock};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::EnvoyConfig;
use crate::envoy_log::LastLine;
use crate::farewell::Farewell;
use crate::gate;
use crate::observer::Event;
use crate::park::counts::Counts;
use crate::park::{Parking, Programmed};
use crate::quit::Quit;
use crate::reaper::{Children, OwnChild};
use crate::restarts::{Restarts, Run};

/// How long Envoy may take to exit after SIGTERM before it is killed.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// A program that is not there now will hardly be there in a moment.
const UNSTARTABLE_DELAY: Duration = Duration::from_secs(1);

/// Everything that Envoy's process needs.
#[derive(Debug)]
pub struct Supervisor {
    /// How it is run.
    pub config: EnvoyConfig,
    /// Its bootstrap.
    pub bootstrap: PathBuf,
    /// How it is left in the end.
    pub farewell: Farewell,
    /// Ends the sidecar of a pod whose work is done.
    pub quit: Quit,
    /// Starts it where the reaper leaves it alone.
    pub children: Children,
    /// Where its state is reported.
    pub events: mpsc::Sender<Event>,
    /// The same for those who must know the present state only.
    pub state: watch::Sender<gate::Envoy>,
    /// Runs that do not answer any more, to be killed.
    pub hung: mpsc::Receiver<u64>,
    /// Where they are counted.
    pub counts: Arc<Counts>,
    /// What takes connections while no Envoy does.
    pub parking: Parking,
    /// Which run carries connections.
    pub programmed: watch::Receiver<Option<Programmed>>,
}

/// Why a run was over.
enum End {
    /// The process ended by itself, or was killed because it did not answer any more.
    Exited { status: ExitStatus, is_hung: bool },
    /// The sidecar is asked to stop.
    Asked,
    /// The pod's work is done, and the sidecar keeps it from completing.
    Done,
    /// The agent has failed; there is no time to drain.
    Failed,
}

impl Supervisor {
    /// Keeps Envoy running until `asked`, then drains and stops it; `failed` stops it at once.
    pub async fn run(mut self, asked: CancellationToken, failed: CancellationToken) -> anyhow::Result<()> {
        let (mut restarts, mut rng) = (Restarts::default(), chance::generator());
        for run in 1.. {
            let started = clock::monotonic();
            let mut child = match self.start() {
                Ok(child) => child,
                Err(error) => {
                    let why = format!("{}: {error}", self.config.program.display());
                    let delay =
                        restarts.delay_after(Run::Unprogrammed(Duration::ZERO), &mut rng).max(UNSTARTABLE_DELAY);
                    tracing::error!(why, retry_in_ms = delay.as_millis(), "Envoy cannot be started");
                    self.report(gate::Envoy::Unstartable(why)).await;
                    tokio::select! {
                        () = sleep(delay) => continue,
                        () = asked.cancelled() => return Ok(()),
                        () = failed.cancelled() => return Ok(()),
                    }
                }
            };
            let last_words = LastLine::of(&mut child.process);
            let pid = child.process.id().unwrap_or(0);
            tracing::info!(pid, run, "Envoy is started");
            self.report(gate::Envoy::Running { run, pid }).await;
            match self.until_end(&mut child, run, &asked, &failed).await? {
                End::Exited { status, is_hung } => {
                    drop(child);
                    let why = why(status, is_hung, &last_words.take().await);
                    let is_programmed = self.programmed.borrow().is_some_and(|programmed| programmed.run == run);
                    let how = if is_programmed { Run::Programmed } else { Run::Unprogrammed };
                    let delay = restarts.delay_after(how(started.elapsed()), &mut rng);
                    let restart_in_ms = delay.as_millis();
                    tracing::warn!(run, why, restart_in_ms, "Envoy ended, though nobody asked it to");
                    self.report(gate::Envoy::Ended { why, is_hung }).await;
                    tokio::select! {
                        () = sleep(delay) => {}
                        () = asked.cancelled() => return Ok(()),
                        () = failed.cancelled() => return Ok(()),
                    }
                }
                End::Asked => return self.leave(child, self.farewell.clone(), &failed).await,
                End::Done => {
                    tracing::info!("the pod's work is done");
                    let mut farewell = self.farewell.clone();
                    farewell.config.with_application = None;
                    return self.leave(child, farewell, &failed).await;
                }
                End::Failed => return stop(&mut child).await,
            }
        }
        Ok(())
    }

    /// Takes leave of everybody who is connected, then stops Envoy.
    async fn leave(&self, mut child: OwnChild, farewell: Farewell, failed: &CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = farewell.run() => {}
            _ = child.process.wait() => {}
            () = failed.cancelled() => {}
        }
        self.parking.close().await;
        stop(&mut child).await
    }

    fn start(&self) -> std::io::Result<OwnChild> {
        let EnvoyConfig { program, log_level, concurrency, connection_drain, .. } = &self.config;
        let mut command = Command::new(program);
        // Without hot restart: its socket is abstract, and any container of the pod could send it a datagram that
        // stops Envoy or takes its listeners.
        command.arg("--disable-hot-restart").arg("-c").arg(&self.bootstrap).args(["-l", log_level]);
        command.args(["--concurrency", &concurrency.to_string()]);
        // Connections of a changed filter chain go on for this long, by default 10 minutes: so long would a revoked
        // grant still be used. A stop does not depend on it; it tells everybody at once, as there is little time.
        command.args(["--drain-time-s", &connection_drain.as_secs().to_string(), "--drain-strategy", "immediate"]);
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        self.children.spawn(&mut command)
    }

    async fn until_end(
        &mut self,
        child: &mut OwnChild,
        run: u64,
        asked: &CancellationToken,
        failed: &CancellationToken,
    ) -> anyhow::Result<End> {
        let mut is_hung = false;
        loop {
            // All of these are cancel safe.
            let hung = tokio::select! {
                ended = child.process.wait() => {
                    return Ok(End::Exited { status: ended.context("waiting for Envoy")?, is_hung });
                }
                () = failed.cancelled() => return Ok(End::Failed),
                () = asked.cancelled() => return Ok(End::Asked),
                () = self.quit.is_due() => return Ok(End::Done),
                Some(hung) = self.hung.recv() => hung,
            };
            if hung == run {
                tracing::warn!(run, "Envoy does not answer and is killed");
                is_hung = true;
                self.counts.hangs.fetch_add(1, Ordering::Relaxed);
                child.process.start_kill().context("killing Envoy")?;
            }
        }
    }

    async fn report(&self, state: gate::Envoy) {
        self.state.send_replace(state.clone());
        // The observer only ends with the agent.
        let _ = self.events.send(Event::Envoy(state)).await;
    }
}

async fn stop(child: &mut OwnChild) -> anyhow::Result<()> {
    let Some(pid) = child.process.id().and_then(|id| i32::try_from(id).ok()) else { return Ok(()) };
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("stopping Envoy")?;
    if timeout(EXIT_LIMIT, child.process.wait()).await.is_err() {
        tracing::warn!("Envoy did not stop when asked and is killed");
        child.process.kill().await.context("killing Envoy")?;
    }
    Ok(())
}

/// How it ended, and what it said last.
fn with_last_words(how: String, said: &str) -> String {
    if said.is_empty() { how } else { format!("{how}, and said: {said}") }
}

fn why(status: ExitStatus, is_hung: bool, last_words: &str) -> String {
    // Who is killed has no last words; what it said before is about something else.
    let is_killed = status.signal() == Some(Signal::SIGKILL as i32);
    let ended = if is_killed { describe(status) } else { with_last_words(describe(status), last_words) };
    if is_hung { format!("did not answer and {ended}") } else { ended }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            format!("was killed by signal {number} ({name})")
        }
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(9)), "was killed by signal 9 (SIGKILL)");
        assert_eq!(describe(ExitStatus::from_raw(1 << 8)), "exited with status 1");
    }
}
