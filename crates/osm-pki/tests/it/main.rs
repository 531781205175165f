//! What the crate promises to its callers, seen from outside: certificates, requests and tokens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod certificates;
mod requests;
mod tokens;

use jiff::Timestamp;
use osm_pki::{Authority, WorkloadIdentity};

/// A fixed moment of the tests: 2027-01-15.
fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn authority() -> Authority {
    Authority::generate(now(), "cluster.local").unwrap()
}

fn client() -> WorkloadIdentity {
    WorkloadIdentity::new("cluster.local", "shop", "client").unwrap()
}
