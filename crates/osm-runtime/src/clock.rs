//! The time. Pure code takes it as an argument; everybody else asks here.

/// The time of day, for what outlives the process: certificates, tokens, timelines.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The time that never jumps, for what is measured or waited for. Stands still in tests that pause tokio's clock.
pub fn monotonic() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
