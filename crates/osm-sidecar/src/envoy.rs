//! Envoy's process: started, started again when it dies, and stopped gently.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
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
use crate::envoy_admin::EnvoyAdmin;
use crate::gate;
use crate::observer::Event;
use crate::park::{Parking, Programmed};
use crate::reaper::{Children, OwnChild};
use crate::restarts::{Restarts, Run};

/// How long Envoy may take to exit after SIGTERM before it is killed.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// Nothing under way for this long means that the drain is over: an application that is shutting down itself must have
/// the time to open its last ones.
const QUIET: Duration = Duration::from_secs(1);

/// Between two looks at the connections during a drain.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// Everything that Envoy's process needs.
#[derive(Debug)]
pub struct Supervisor {
    /// How it is run.
    pub config: EnvoyConfig,
    /// Its bootstrap.
    pub bootstrap: PathBuf,
    /// Its admin interface.
    pub admin: EnvoyAdmin,
    /// Starts it where the reaper leaves it alone.
    pub children: Children,
    /// Where its state is reported.
    pub events: mpsc::Sender<Event>,
    /// The same for those who must know the present state only.
    pub state: watch::Sender<gate::Envoy>,
    /// Runs that do not answer any more, to be killed.
    pub hung: mpsc::Receiver<u64>,
    /// What takes connections while no Envoy does.
    pub parking: Parking,
    /// Which run carries connections.
    pub programmed: watch::Receiver<Option<Programmed>>,
}

/// Why a run was over.
enum End {
    /// The process ended, and how.
    Exited(String),
    /// The sidecar is asked to stop.
    Asked,
    /// The agent has failed; there is no time to drain.
    Failed,
}

impl Supervisor {
    /// Keeps Envoy running until `asked`, then drains and stops it; `failed` stops it at once.
    pub async fn run(mut self, asked: CancellationToken, failed: CancellationToken) -> anyhow::Result<()> {
        let (mut restarts, mut rng) = (Restarts::default(), chance::generator());
        for run in 1.. {
            let started = clock::monotonic();
            let mut child = self.start().with_context(|| format!("starting {}", self.config.program.display()))?;
            let pid = child.process.id().unwrap_or(0);
            tracing::info!(pid, run, "Envoy is started");
            self.report(gate::Envoy::Running { run, pid }).await;
            match self.until_end(&mut child, run, &asked, &failed).await? {
                End::Exited(why) => {
                    drop(child);
                    let is_programmed = self.programmed.borrow().is_some_and(|programmed| programmed.run == run);
                    let how = if is_programmed { Run::Programmed } else { Run::Unprogrammed };
                    let delay = restarts.delay_after(how(started.elapsed()), &mut rng);
                    tracing::warn!(
                        run,
                        why,
                        restart_in_ms = delay.as_millis(),
                        "Envoy ended, though nobody asked it to"
                    );
                    self.report(gate::Envoy::Ended(why)).await;
                    tokio::select! {
                        () = sleep(delay) => {}
                        () = asked.cancelled() => return Ok(()),
                        () = failed.cancelled() => return Ok(()),
                    }
                }
                End::Asked => {
                    self.drain(&mut child, &failed).await;
                    self.parking.close().await;
                    return stop(&mut child).await;
                }
                End::Failed => return stop(&mut child).await,
            }
        }
        Ok(())
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
        command.stdin(Stdio::null()).kill_on_drop(true);
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
                    let ended = describe(ended.context("waiting for Envoy")?);
                    let why = if is_hung { format!("did not answer any more and {ended}") } else { ended };
                    return Ok(End::Exited(why));
                }
                () = failed.cancelled() => return Ok(End::Failed),
                () = asked.cancelled() => return Ok(End::Asked),
                Some(hung) = self.hung.recv() => hung,
            };
            if hung == run {
                tracing::warn!(run, "Envoy does not answer any more and is killed");
                is_hung = true;
                child.process.start_kill().context("killing Envoy")?;
            }
        }
    }

    /// Tells the peers to go elsewhere and waits until nothing is under way, at most the configured time.
    async fn drain(&self, child: &mut OwnChild, failed: &CancellationToken) {
        let limit = self.config.drain_limit;
        if limit.is_zero() {
            return;
        }
        tracing::info!(limit_ms = limit.as_millis(), "draining: inbound connections are asked to end");
        if let Err(error) = self.admin.drain_inbound(DRAIN_INTERVAL * 10).await {
            tracing::warn!(error = format!("{error:#}"), "Envoy could not be asked to drain");
        }
        tokio::select! {
            _ = timeout(limit, self.until_quiet()) => {}
            _ = child.process.wait() => {}
            () = failed.cancelled() => {}
        }
    }

    async fn until_quiet(&self) {
        let mut last_busy = clock::monotonic();
        while last_busy.elapsed() < QUIET {
            let is_quiet = self.admin.activity(DRAIN_INTERVAL * 10).await.is_ok_and(|busy| busy == 0);
            if !is_quiet {
                last_busy = clock::monotonic();
            }
            sleep(DRAIN_INTERVAL).await;
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
