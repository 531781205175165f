//! Asks Envoy about itself: often until it is programmed, then now and then, to notice when it hangs.

use std::sync::Arc;
use std::time::Duration;

use osm_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::envoy_admin::EnvoyAdmin;
use crate::gate;
use crate::observer::{Event, Status};

/// While somebody waits for the gate.
const CLOSED_INTERVAL: Duration = Duration::from_millis(20);

/// Otherwise.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// One question may take this long: a machine that starts many pods at once is slow.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// Asks until `stop`. A run that has answered before and then says nothing for `hung_after` is reported as hung.
pub async fn run(
    admin: EnvoyAdmin,
    hung_after: Option<Duration>,
    mut envoy: watch::Receiver<gate::Envoy>,
    status: watch::Receiver<Arc<Status>>,
    events: mpsc::Sender<Event>,
    hung: mpsc::Sender<u64>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // The run that answered last, and when; and what was reported last.
    let (mut heard, mut reported) = (None, None);
    loop {
        let present = envoy.borrow_and_update().clone();
        if let gate::Envoy::Running { run, pid: _ } = present {
            match admin.answer(run, QUESTION_LIMIT).await {
                Ok(answer) => {
                    heard = Some((run, clock::monotonic()));
                    if reported.as_ref() != Some(&answer) {
                        reported = Some(answer.clone());
                        let _ = events.send(Event::Answer(answer)).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(run, error = format!("{error:#}"), "Envoy does not answer");
                    let silent = heard.filter(|(last, _)| *last == run).map(|(_, at)| at.elapsed());
                    if silent.zip(hung_after).is_some_and(|(silent, limit)| silent >= limit) {
                        heard = None;
                        let _ = hung.send(run).await;
                    }
                }
            }
        }
        let interval = if status.borrow().gate.is_open() { OPEN_INTERVAL } else { CLOSED_INTERVAL };
        tokio::select! {
            () = sleep(interval) => {}
            Ok(()) = envoy.changed() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
