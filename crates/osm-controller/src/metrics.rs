//! The controller's metrics. Where OSM had one that makes sense it keeps its name.

use std::fmt;

use osm_api::Kind;
use osm_runtime::Version;
use osm_startup::Phase;
use osm_xds::ResourceType;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::control::Snapshot;

/// Everything that is counted and measured. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Sidecars that are connected.
    pub(crate) proxy_connect_count: Gauge,
    /// Times that something was published.
    pub(crate) broadcast_event_count: OsmCount,
    /// Certificates that were signed for workloads.
    pub(crate) cert_issued_count: OsmCount,
    /// How long signing one took, waiting included, in seconds.
    pub(crate) cert_issued_time: Histogram,
    /// Requests that were refused, by why.
    pub(crate) refusals: Family<RefusalLabels, Counter>,
    /// How long the phases of pods' starts took, in seconds.
    pub(crate) startup_seconds: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    /// World to Mesh, in seconds.
    pub(crate) resolve_seconds: Histogram,
    /// Mesh to the Resources of every class, in seconds.
    pub(crate) translate_seconds: Histogram,
    /// From the first change to its publication, in seconds.
    pub(crate) push_seconds: Histogram,
    api_event_count: Family<EventLabels, OsmCount>,
    rejections: Family<RejectionLabels, Counter>,
    problems: Gauge,
    classes: Gauge,
    services: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    resource_type: String,
}

/// Which phase of a pod's start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PhaseLabels {
    /// One of a few constant words.
    pub(crate) phase: &'static str,
}

/// 10 ms to 82 s.
fn startup_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 14))
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabels {
    /// One of a few constant words.
    pub(crate) reason: &'static str,
}

/// A counter under the very name that OSM gave it; OpenMetrics would append `_total`, and dashboards would be empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct OsmCount(Counter);

impl OsmCount {
    /// One more.
    pub(crate) fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for OsmCount {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for OsmCount {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl Metrics {
    /// All of them, in `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        // 100 us to 6.5 s.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 17));
        let metrics = Metrics {
            proxy_connect_count: Gauge::default(),
            broadcast_event_count: OsmCount::default(),
            cert_issued_count: OsmCount::default(),
            cert_issued_time: seconds(),
            refusals: Family::default(),
            startup_seconds: Family::new_with_constructor(startup_buckets),
            resolve_seconds: seconds(),
            translate_seconds: seconds(),
            push_seconds: seconds(),
            api_event_count: Family::default(),
            rejections: Family::default(),
            problems: Gauge::default(),
            classes: Gauge::default(),
            services: Gauge::default(),
        };
        let m = metrics.clone();
        registry.register("osm_k8s_api_event_count", "Events about objects", m.api_event_count);
        registry.register("osm_proxy_connect_count", "Sidecars that are connected", m.proxy_connect_count);
        registry.register("osm_proxy_broadcast_event_count", "Publications to sidecars", m.broadcast_event_count);
        registry.register("osm_cert_issued_count", "Certificates signed for workloads", m.cert_issued_count);
        registry.register("osm_cert_issued_time", "Seconds to sign a certificate", m.cert_issued_time);
        registry.register("osm_refusals", "Requests of sidecars that were refused", m.refusals);
        registry.register("osm_rejections", "Configurations that a sidecar rejected", m.rejections);
        registry.register("osm_startup_seconds", "Seconds that phases of pods' starts took", m.startup_seconds);
        registry.register("osm_resolve_seconds", "Seconds from objects to their meaning", m.resolve_seconds);
        registry.register("osm_translate_seconds", "Seconds from meaning to configurations", m.translate_seconds);
        registry.register("osm_push_seconds", "Seconds from a first change to its publication", m.push_seconds);
        registry.register("osm_problems", "Problems with objects", m.problems);
        registry.register("osm_proxy_classes", "Different configurations of sidecars", m.classes);
        registry.register("osm_services", "Services of the mesh", m.services);
        let Version { version, git_commit, build_date } = Version::of_this_build();
        let version = Info::new(vec![("version", version), ("git_commit", git_commit), ("build_date", build_date)]);
        registry.register("osm_version", "Which build this is", version);
        metrics
    }

    /// Counts an event about an object, in OSM's words: `pod-updated`.
    pub(crate) fn count_event(&self, kind: Kind, verb: &str, namespace: &str) {
        let r#type = format!("{}-{verb}", kind.name().to_lowercase());
        self.api_event_count.get_or_create(&EventLabels { r#type, namespace: namespace.to_owned() }).inc();
    }

    /// Counts a configuration that a proxy rejected.
    pub(crate) fn count_rejection(&self, ty: ResourceType) {
        self.rejections.get_or_create(&RejectionLabels { resource_type: ty.to_string() }).inc();
    }

    /// Takes in how long one phase of a pod's start took.
    pub(crate) fn observe_startup(&self, phase: Phase, seconds: f64) {
        self.startup_seconds.get_or_create(&PhaseLabels { phase: phase.name() }).observe(seconds);
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&self, reason: &'static str) {
        self.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// Shows the sizes of what was published.
    pub(crate) fn show(&self, snapshot: &Snapshot) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.problems.set(count(snapshot.problems.len()));
        self.classes.set(count(snapshot.classes.len()));
        self.services.set(count(snapshot.mesh.services.len()));
        self.broadcast_event_count.inc();
    }
}
