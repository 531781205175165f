//! Tells the controller how this pod's start stands, and hears what the controller knows that the agent cannot: that
//! it does not know the pod yet, or that the pod's namespace has left the mesh.

use std::sync::Arc;
use std::time::Duration;

use osm_startup::{AgentReport, Reason};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::Controller;
use crate::controller;
use crate::gate::Obstacle;
use crate::identity::{Current, known_roots};
use crate::observer::{Event, Status};
use crate::pages::report;

/// Where the controller takes reports.
const PATH: &str = "/v1/startup";

/// For one report.
const LIMIT: Duration = Duration::from_secs(5);

/// Its answer is a sentence.
const ANSWER_LIMIT_BYTES: usize = 16 * 1024;

/// Before the first report: most pods are programmed by then, and have it as their only one.
const FIRST: Duration = Duration::from_millis(500);

/// Between two reports of a pod that is held: who looks wants the reason within two seconds.
const SOON: Duration = Duration::from_secs(1);

/// The same once it has been held for long: a thousand pods that wait together must not keep the controller busy.
const LATER: Duration = Duration::from_secs(5);

/// So many reports come soon.
const SOON_COUNT: u32 = 20;

#[derive(Deserialize)]
struct Answer {
    obstacle: Option<Told>,
}

#[derive(Deserialize)]
struct Told {
    reason: String,
    what: String,
}

/// What the reporter works with.
pub(crate) struct Reporter {
    pub(crate) controller: Controller,
    pub(crate) workload: watch::Receiver<Current>,
    pub(crate) status: watch::Receiver<Arc<Status>>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Reporter {
    /// Reports until `stop`: now and then while the pod is held, and once when it is not any more.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.run_until_cancelled(self.go_on()).await;
        Ok(())
    }

    async fn go_on(&mut self) {
        let mut channel: Option<Channel> = None;
        let (mut count, mut has_failed) = (0, false);
        loop {
            if has_failed {
                sleep(SOON).await;
            } else {
                let pause = match count {
                    0 => FIRST,
                    _ if count < SOON_COUNT => SOON,
                    _ => LATER,
                };
                self.until_due(pause).await;
            }
            let now = self.status.borrow_and_update().clone();
            // Whoever cannot reach the controller is told so by others.
            has_failed = !now.upstream.is_connected;
            if has_failed {
                channel = None;
                continue;
            }
            count += 1;
            let said = report(&now);
            match timeout(LIMIT, self.tell(&mut channel, &said)).await {
                Ok(Ok(told)) => {
                    let _ = self.events.send(Event::Told(told)).await;
                    if said.is_programmed {
                        count = 0;
                        self.until_held().await;
                    }
                }
                failed => {
                    let why = failed.map_or_else(|_| "no answer".to_owned(), |said| said.err().unwrap_or_default());
                    tracing::debug!(error = why, "the controller does not take a report");
                    (channel, has_failed) = (None, true);
                }
            }
        }
    }

    /// A while, or until the gate opens. The sender lives as long as the agent.
    async fn until_due(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.status.wait_for(|status| status.gate.is_open()) => {}
        }
    }

    async fn until_held(&mut self) {
        // The sender lives as long as the agent.
        let _ = self.status.wait_for(|status| !status.gate.is_open()).await;
    }

    async fn tell(&self, channel: &mut Option<Channel>, said: &AgentReport) -> Result<Option<Obstacle>, String> {
        let authorization = controller::authorization(&self.controller.token_file).await.map_err(|why| why.what)?;
        let channel = match channel {
            Some(channel) => channel,
            None => {
                let roots = known_roots(&self.controller, self.workload.borrow().as_deref());
                channel.insert(controller::connect(&self.controller, &roots).await.map_err(|why| why.what)?)
            }
        };
        let body = serde_json::to_string(said).map_err(|error| error.to_string())?;
        let (status, body) = controller::post(channel, PATH, authorization, body, ANSWER_LIMIT_BYTES).await?;
        if !status.is_success() {
            return Err(format!("{status}"));
        }
        let Answer { obstacle } = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let obstacle = obstacle.map(|Told { reason, what }| Obstacle {
            reason: Reason::of_code(&reason).unwrap_or(Reason::ConfigurationPending),
            what,
        });
        Ok(obstacle)
    }
}
