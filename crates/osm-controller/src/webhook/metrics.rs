//! What is counted and measured of admission. Labels are from small closed sets.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionMetrics {
    responses: Family<ResponseLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    seconds: Family<WebhookLabels, Histogram>,
}

/// How one question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Changed.
    Patched,
    /// Allowed as it is.
    Allowed,
    /// Not allowed, because of what it is.
    Refused,
    /// Not allowed, because we could not decide.
    Unable,
    /// No question.
    Malformed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    kind: &'static str,
    success: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    webhook: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: &'static str,
}

impl AdmissionMetrics {
    /// All of them, in `registry`.
    pub(crate) fn register(registry: &mut Registry) -> AdmissionMetrics {
        let metrics = AdmissionMetrics {
            responses: Family::default(),
            outcomes: Family::default(),
            // 100 us to 6.5 s.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 17))),
        };
        let AdmissionMetrics { responses, outcomes, seconds } = metrics.clone();
        registry.register("osm_admission_webhook_response", "Answers to the API server, as OSM counts them", responses);
        registry.register("osm_admission", "Answers to the API server", outcomes);
        registry.register("osm_admission_seconds", "Seconds to answer the API server", seconds);
        metrics
    }

    /// Counts an answer.
    pub(crate) fn count(&self, webhook: &'static str, kind: &'static str, outcome: Outcome, took: Duration) {
        let (outcome, success) = match outcome {
            Outcome::Patched => ("patched", "true"),
            Outcome::Allowed => ("allowed", "true"),
            Outcome::Refused => ("refused", "true"),
            Outcome::Unable => ("unable", "false"),
            Outcome::Malformed => ("malformed", "false"),
        };
        self.responses.get_or_create(&ResponseLabels { kind, success }).inc();
        self.outcomes.get_or_create(&OutcomeLabels { webhook, outcome }).inc();
        self.seconds.get_or_create(&WebhookLabels { webhook }).observe(took.as_secs_f64());
    }
}
