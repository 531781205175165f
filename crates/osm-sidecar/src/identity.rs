//! The workload's certificate: a key made here, a request with the pod's token, and the next one in time.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use osm_pki::{KeyAndCsr, TrustBundle, renew_at};
use osm_runtime::{Backoff, chance, clock};
use osm_startup::Reason;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::complaint::Complaint;
use crate::config::Controller;
use crate::controller::{self, chain, not_authenticated, not_permitted};
use crate::gate::{self, Obstacle};
use crate::observer::Event;

/// Where certificates are asked for.
const PATH: &str = "/v1/certificate";

/// An attempt that takes longer is told of while it lasts.
const LONG: Duration = Duration::from_secs(1);

/// For the request alone, without connecting.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A chain of three and sixteen roots take about 40 kB.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024;

/// While the pod has no certificate somebody waits.
const FIRST: Backoff = Backoff { first: Duration::from_millis(100), limit: Duration::from_secs(5) };

/// A renewal has hours.
const RENEWAL: Backoff = Backoff { first: Duration::from_secs(1), limit: Duration::from_secs(60) };

/// The clock is looked at again after this, because it may be set, and machines may be suspended.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// What the workload shows and whom it trusts. The key is only here, in Envoy and in the last good state.
#[derive(PartialEq, Eq)]
pub struct Workload {
    /// The private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// The certificate and what is needed to reach a root, PEM.
    pub chain_pem: String,
    /// The roots that peers are verified with, PEM.
    pub bundle_pem: String,
    /// When it was issued, by our clock.
    pub issued: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The present certificate, for everybody who needs it.
pub type Current = Option<Arc<Workload>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    certificate_chain: String,
    trust_bundle: String,
    not_after: Timestamp,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    /// Its code, if the controller has one.
    #[serde(default)]
    reason: String,
}

/// Keeps a valid certificate in `current` until `stop`. One that is there from an earlier life is replaced as soon as the
/// controller can be reached: roots may have changed meanwhile.
pub async fn run(
    controller: Controller,
    current: watch::Sender<Current>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut rng = chance::generator();
    let mut complaint = Complaint::default();
    let mut failures = 0;
    let restored = current.borrow().as_ref().map(|workload| workload.not_after);
    if let Some(not_after) = restored {
        let _ = events.send(Event::Identity(gate::Identity::Restored(not_after))).await;
    }
    loop {
        let roots = known_roots(&controller, current.borrow().as_deref());
        let is_held = current.borrow().is_some();
        let attempt = tokio::select! {
            attempt = ask_aloud(&controller, &roots, &events, is_held) => attempt,
            () = stop.cancelled() => return Ok(()),
        };
        let next = match attempt {
            Ok(workload) => {
                failures = 0;
                let next = renew_at(workload.issued, workload.not_after, &mut rng);
                tracing::info!(not_after = %workload.not_after, renew_at = %next, "the workload certificate is issued");
                let held = gate::Identity::Held(workload.not_after);
                current.send_replace(Some(Arc::new(workload)));
                let _ = events.send(Event::Identity(held)).await;
                next
            }
            Err(obstacle) => {
                failures += 1;
                if complaint.is_due(&obstacle.what, clock::monotonic()) {
                    tracing::warn!(error = obstacle.what, failures, "the workload certificate is not issued");
                }
                if !is_held {
                    let _ = events.send(Event::Identity(gate::Identity::Refused(obstacle))).await;
                }
                let delay = if is_held { RENEWAL } else { FIRST }.delay(failures, &mut rng);
                clock::now().saturating_add(delay).unwrap_or(Timestamp::MAX)
            }
        };
        tokio::select! {
            () = until(next) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Who may vouch for the controller: the authority from injection, which a wrong answer must not displace, and those
/// that the controller named since, so that the mesh's root can be changed under running pods.
pub fn known_roots(controller: &Controller, workload: Option<&Workload>) -> String {
    match workload {
        Some(workload) => format!("{}\n{}", controller.root_ca, workload.bundle_pem),
        None => controller.root_ca.clone(),
    }
}

/// Returns when the clock shows `time`, though it may be set meanwhile.
pub(crate) async fn until(time: Timestamp) {
    loop {
        let left = Duration::try_from(time.duration_since(clock::now())).unwrap_or(Duration::ZERO);
        if left.is_zero() {
            return;
        }
        sleep(left.min(CLOCK_INTERVAL)).await;
    }
}

/// Asks, and says what it takes time with when that is long: whoever waits should not have to wait for a time-out to
/// know why.
async fn ask_aloud(
    controller: &Controller,
    roots: &str,
    events: &mpsc::Sender<Event>,
    is_held: bool,
) -> Result<Workload, Obstacle> {
    let is_connected = AtomicBool::new(false);
    let mut asking = pin!(ask(controller, roots, &is_connected));
    tokio::select! {
        asked = &mut asking => return asked,
        () = sleep(LONG) => {}
    }
    if !is_held {
        let identity = if is_connected.load(Ordering::Relaxed) {
            gate::Identity::Asked
        } else {
            let what = format!("cannot reach {}: no answer for {LONG:?}, still trying", controller.address);
            gate::Identity::Refused(Obstacle { reason: Reason::ControllerSilent, what })
        };
        let _ = events.send(Event::Identity(identity)).await;
    }
    asking.await
}

async fn ask(controller: &Controller, roots: &str, is_connected: &AtomicBool) -> Result<Workload, Obstacle> {
    let authorization = controller::authorization(&controller.token_file).await?;
    let KeyAndCsr { key_pem, csr_pem } = KeyAndCsr::generate().map_err(|error| unusable(chain(&error)))?;
    let mut channel = controller::connect(controller, roots).await?;
    is_connected.store(true, Ordering::Relaxed);
    let question = json!({ "csr": csr_pem }).to_string();
    let asked = controller::post(&mut channel, PATH, authorization, question, ANSWER_LIMIT_BYTES);
    let answer = timeout(ANSWER_LIMIT, asked).await;
    let (status, body) = answer
        .map_err(|_| Obstacle {
            reason: Reason::CertificatePending,
            what: format!("asked for, and no answer within {ANSWER_LIMIT:?}"),
        })?
        .map_err(|why| Obstacle {
            reason: Reason::ControllerFailed,
            what: format!("the controller's answer did not come to its end: {why}"),
        })?;
    let issued = read(status, &body)?;
    let now = clock::now();
    if issued.not_after <= now {
        let what = format!("the one that was issued expired at {}, and it is {now} here", issued.not_after);
        return Err(Obstacle { reason: Reason::CertificateExpired, what });
    }
    let bundle = TrustBundle::from_pem(&issued.trust_bundle).map_err(|error| unusable(chain(&error)))?;
    Ok(Workload {
        key_pem,
        chain_pem: issued.certificate_chain,
        bundle_pem: bundle.pem(),
        issued: now,
        not_after: issued.not_after,
    })
}

fn read(status: StatusCode, body: &[u8]) -> Result<Issued, Obstacle> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| unusable(format!("it cannot be read: {error}")));
    }
    let refusal = serde_json::from_slice(body);
    let Refusal { error, reason } =
        refusal.unwrap_or_else(|_| Refusal { error: "no reason given".to_owned(), reason: String::new() });
    let named = Reason::of_code(&reason);
    Err(match status {
        StatusCode::UNAUTHORIZED => not_authenticated(named, &error),
        StatusCode::FORBIDDEN => not_permitted(named, &error),
        other => {
            let obstacle = unusable(format!("{other}: {error}"));
            Obstacle { reason: named.unwrap_or(obstacle.reason), ..obstacle }
        }
    })
}

fn unusable(why: String) -> Obstacle {
    Obstacle { reason: Reason::CertificateRefused, what: format!("the controller's answer cannot be used: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: StatusCode, body: &str) -> (Reason, String) {
        let obstacle = read(status, body.as_bytes()).err().unwrap();
        (obstacle.reason, obstacle.what)
    }

    #[test]
    fn refusals_say_whose_turn_it_is_in_the_controllers_words() {
        assert_eq!(
            refusal(StatusCode::UNAUTHORIZED, r#"{"error":"the token expired","reason":"token-expired"}"#),
            (Reason::TokenExpired, "the controller does not accept the pod's token (401): the token expired".into())
        );
        assert_eq!(
            refusal(StatusCode::FORBIDDEN, r#"{"error":"no such pod"}"#),
            (Reason::TokenRefused, "the controller refuses this pod's service account (403): no such pod".into())
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, "<html>"),
            (
                Reason::CertificateRefused,
                "the controller's answer cannot be used: 502 Bad Gateway: no reason given".into()
            )
        );
        assert!(refusal(StatusCode::OK, "{}").1.contains("it cannot be read: missing field `certificateChain`"));
    }
}
