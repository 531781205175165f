//! What is counted of parking and supervision: for Prometheus, and for the page that says what the pod waits for.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::Direction;
use crate::timeline::UnixMs;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counts {
    outbound: SideCounts,
    inbound: SideCounts,
    /// Runs of Envoy that were killed because they did not answer.
    pub hangs: AtomicU64,
}

/// What is counted of one of the proxy's ports.
#[derive(Debug, Default)]
pub(super) struct SideCounts {
    /// Connections that wait now.
    pub(super) waiting: AtomicU64,
    /// Bytes that they have sent meanwhile.
    pub(super) waiting_bytes: AtomicU64,
    /// Connections that the agent has accepted.
    pub(super) accepted: AtomicU64,
    /// Those that Envoy got.
    pub(super) handed_over: AtomicU64,
    /// Whether new connections go to Envoy.
    pub(super) is_handed_over: AtomicBool,
    /// Times that new connections, of one address family, were steered to an Envoy that had become ready.
    pub(super) hand_overs: AtomicU64,
    /// Listening sockets that were taken over from an Envoy that was gone.
    pub(super) taken_over: AtomicU64,
    /// Times that a bound was hit, in the order of [`Bound::ALL`].
    pub(super) bounds_hit: [AtomicU64; Bound::ALL.len()],
    last_hit: Mutex<Option<Hit>>,
}

/// What bounds the parking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Connections,
    Bytes,
    Time,
}

/// The last time that a bound was hit.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hit {
    at: UnixMs,
    reason: String,
}

/// For the start-up page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    outbound: SideStanding,
    inbound: SideStanding,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SideStanding {
    is_handed_over: bool,
    waiting: u64,
    waiting_bytes: u64,
    handed_over: u64,
    last_bound_hit: Option<Hit>,
}

impl Bound {
    const ALL: [Bound; 3] = [Bound::Connections, Bound::Bytes, Bound::Time];

    pub(super) fn name(self) -> &'static str {
        match self {
            Bound::Connections => "connections",
            Bound::Bytes => "bytes",
            Bound::Time => "time",
        }
    }
}

impl Counts {
    pub(super) fn of(&self, direction: Direction) -> &SideCounts {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }

    /// What waits now.
    pub fn standing(&self) -> Standing {
        Standing { outbound: self.outbound.standing(), inbound: self.inbound.standing() }
    }

    /// In the text that Prometheus reads; `envoy_restarts` is counted elsewhere.
    pub fn to_prometheus(&self, envoy_restarts: u64) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, values: &[(String, u64)]| {
            writeln!(text, "# TYPE osm_sidecar_{name} {kind}").expect("a String takes every write");
            for (labels, value) in values {
                writeln!(text, "osm_sidecar_{name}{labels} {value}").expect("a String takes every write");
            }
        };
        family("envoy_restarts_total", "counter", &[(String::new(), envoy_restarts)]);
        family("envoy_hangs_total", "counter", &[(String::new(), self.hangs.load(Ordering::Relaxed))]);
        let each = |of: fn(&SideCounts) -> &AtomicU64| {
            let value = |direction: Direction| {
                let labels = format!("{{direction=\"{}\"}}", direction.name());
                (labels, of(self.of(direction)).load(Ordering::Relaxed))
            };
            Direction::ALL.map(value)
        };
        family("parked_connections", "gauge", &each(|side| &side.waiting));
        family("parked_bytes", "gauge", &each(|side| &side.waiting_bytes));
        family("accepted_connections_total", "counter", &each(|side| &side.accepted));
        family("handed_over_connections_total", "counter", &each(|side| &side.handed_over));
        family("hand_overs_total", "counter", &each(|side| &side.hand_overs));
        family("listeners_taken_over_total", "counter", &each(|side| &side.taken_over));
        let hits = Direction::ALL.into_iter().flat_map(|direction| {
            let hits = Bound::ALL.into_iter().zip(&self.of(direction).bounds_hit);
            hits.map(move |(bound, hits)| {
                let labels = format!("{{direction=\"{}\",bound=\"{}\"}}", direction.name(), bound.name());
                (labels, hits.load(Ordering::Relaxed))
            })
        });
        family("park_bounds_hit_total", "counter", &hits.collect::<Vec<_>>());
        text
    }
}

impl SideCounts {
    /// Notes that a bound was hit, and why that matters.
    pub(super) fn hit(&self, bound: Bound, reason: String, at: Timestamp) {
        self.bounds_hit[bound as usize].fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_hit.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Hit { at: UnixMs::from(at), reason });
    }

    fn standing(&self) -> SideStanding {
        SideStanding {
            is_handed_over: self.is_handed_over.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            waiting_bytes: self.waiting_bytes.load(Ordering::Relaxed),
            handed_over: self.handed_over.load(Ordering::Relaxed),
            last_bound_hit: self.last_hit.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Counts while it lives.
#[derive(Debug)]
pub(super) struct Share<'a> {
    total: &'a AtomicU64,
    own: u64,
}

impl<'a> Share<'a> {
    pub(super) fn new(total: &'a AtomicU64, own: u64) -> Share<'a> {
        total.fetch_add(own, Ordering::Relaxed);
        Share { total, own }
    }

    pub(super) fn set(&mut self, own: u64) {
        self.total.fetch_add(own, Ordering::Relaxed);
        self.total.fetch_sub(self.own, Ordering::Relaxed);
        self.own = own;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_and_the_page_see_what_was_counted() {
        let counts = Counts::default();
        counts.hangs.fetch_add(2, Ordering::Relaxed);
        let side = counts.of(Direction::Inbound);
        side.hit(Bound::Bytes, "too much".into(), Timestamp::UNIX_EPOCH);
        let mut share = Share::new(&side.waiting_bytes, 5);
        share.set(7);
        let text = counts.to_prometheus(3);
        for line in [
            "# TYPE osm_sidecar_envoy_restarts_total counter\nosm_sidecar_envoy_restarts_total 3\n",
            "osm_sidecar_envoy_hangs_total 2\n",
            "# TYPE osm_sidecar_parked_connections gauge\nosm_sidecar_parked_connections{direction=\"outbound\"} 0\n",
            "osm_sidecar_parked_bytes{direction=\"inbound\"} 7\n",
            "osm_sidecar_park_bounds_hit_total{direction=\"inbound\",bound=\"bytes\"} 1\n",
            "osm_sidecar_park_bounds_hit_total{direction=\"outbound\",bound=\"time\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}is not in\n{text}");
        }
        drop(share);
        let page = serde_json::to_value(counts.standing()).unwrap();
        let hit = serde_json::json!({ "at": 0, "reason": "too much" });
        let inbound = serde_json::json!({
            "isHandedOver": false, "waiting": 0, "waitingBytes": 0, "handedOver": 0, "lastBoundHit": hit,
        });
        assert_eq!(page["inbound"], inbound);
    }
}
