//! Tasks and their end. Nothing is spawned past this, so that no task is an orphan and none dies in silence.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// The tasks of a process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: Arc<OnceLock<anyhow::Error>>,
}

impl Tasks {
    /// No task yet, and nobody asked to stop.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Tasks that stop when `stop` is cancelled, and cancel only themselves when one of them fails.
    pub fn under(stop: &CancellationToken) -> Tasks {
        Tasks { stop: stop.child_token(), ..Tasks::default() }
    }

    /// Cancelled when the process is to stop. Every task must watch it.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that the process cannot do without. If it ends, fails or panics before the stop, everything stops
    /// and [`Tasks::wait`] returns its error.
    pub fn spawn<F>(&self, name: &'static str, span: Span, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let running = tokio::spawn(task.instrument(span.clone()));
        let (stop, failure) = (self.stop.clone(), self.failure.clone());
        let watch = async move {
            let error = match running.await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => anyhow!("ended, though nobody asked it to"),
                Ok(Err(error)) => error,
                Err(panic) => anyhow!(describe(panic)),
            };
            let error = error.context(format!("task {name}"));
            tracing::error!(task = name, error = format!("{error:#}"), "a task ended that must not");
            // Only the first failure is kept: the others are its consequences.
            let _ = failure.set(error);
            stop.cancel();
        };
        self.tracker.spawn(watch.instrument(span));
    }

    /// Runs a task that may end at any time, as one session does. A panic ends it alone and is logged.
    pub fn spawn_session<F>(&self, name: &'static str, span: Span, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = tokio::spawn(task.instrument(span.clone()));
        let watch = async move {
            if let Err(panic) = running.await {
                tracing::error!(task = name, error = describe(panic), "a session ended by a fault of ours");
            }
        };
        self.tracker.spawn(watch.instrument(span));
    }

    /// Stops everything when the process gets SIGTERM or SIGINT.
    pub fn stop_on_signals(&self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "asked to stop"),
                _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "asked to stop"),
                () = stop.cancelled() => {}
            }
            stop.cancel();
        });
        Ok(())
    }

    /// Waits for the stop, then for every task, at most `grace`. The error is that of the first task that failed.
    pub async fn wait(self, grace: Duration) -> anyhow::Result<()> {
        self.stop.cancelled().await;
        self.tracker.close();
        let is_late = tokio::time::timeout(grace, self.tracker.wait()).await.is_err();
        if let Some(error) = self.failure.get() {
            bail!("{error:#}");
        }
        if is_late {
            bail!("{} tasks did not stop within {grace:?}", self.tracker.len());
        }
        Ok(())
    }
}

fn describe(error: JoinError) -> String {
    if !error.is_panic() {
        return error.to_string();
    }
    let payload = error.into_panic();
    let text = payload.downcast_ref::<&str>().map(|t| (*t).to_owned());
    format!("panicked: {}", text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn tasks_that_end_after_the_stop_are_no_error() {
        let tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("loop", Span::none(), async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.stop().cancel();
        tasks.wait(GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_ends_early_stops_everything() {
        let tasks = Tasks::new();
        tasks.spawn("loop", Span::none(), async { Ok(()) });
        let error = tasks.wait(GRACE).await.unwrap_err();
        assert_eq!(error.to_string(), "task loop: ended, though nobody asked it to");
    }

    #[tokio::test]
    async fn a_panic_of_a_task_stops_everything_and_a_panic_of_a_session_does_not() {
        let tasks = Tasks::new();
        tasks.spawn_session("session", Span::none(), async { panic!("one client's fault") });
        tokio::task::yield_now().await;
        assert!(!tasks.stop().is_cancelled());
        tasks.spawn("loop", Span::none(), async { panic!("broken law") });
        let error = tasks.wait(GRACE).await.unwrap_err();
        assert_eq!(error.to_string(), "task loop: panicked: broken law");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_named_after_the_grace() {
        let tasks = Tasks::new();
        tasks.spawn("loop", Span::none(), std::future::pending());
        tasks.stop().cancel();
        let error = tasks.wait(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.to_string(), "1 tasks did not stop within 20ms");
    }
}
