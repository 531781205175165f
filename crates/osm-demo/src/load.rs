//! A steady rate of new connections, one request each, and what became of them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::client::{Connection, PATIENCE, Url};
use crate::say;

/// What became of every connection.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// Connections tried.
    tried: u64,
    /// Answered with 200.
    ok: u64,
    /// Answered with another status.
    other_status: u64,
    /// `connect()` was refused.
    refused: u64,
    /// Established, then reset or closed before the answer.
    reset: u64,
    /// Not done within the patience.
    timed_out: u64,
    /// Anything else, as a name that does not resolve.
    failed: u64,
    /// The longest that an answered request took, in milliseconds.
    slowest_ms: u128,
    /// Half of the answered requests took less, in milliseconds.
    median_ms: u128,
    /// 99 of 100 answered requests took no more, in milliseconds.
    p99_ms: u128,
}

enum End {
    Answered(StatusCode, Duration),
    Refused,
    Reset,
    TimedOut,
    Failed(String),
}

/// Opens `rate` connections a second for `duration`, or until told to end, waits for all of them, and prints the counts
/// as one line of JSON.
pub(crate) async fn run(url: &Url, rate: u32, duration: Duration) -> Result<()> {
    ensure!(rate > 0, "a rate of 0 connections a second tries nothing");
    let mut terminate = signal(SignalKind::terminate()).context("asking for SIGTERM")?;
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tries = JoinSet::new();
    let start = Instant::now();
    let mut counts = Counts::default();
    while start.elapsed() < duration {
        // Both are cancel safe.
        tokio::select! {
            _ = terminate.recv() => break,
            _ = ticks.tick() => {}
        }
        counts.tried += 1;
        let url = url.clone();
        tries.spawn(async move { one(&url).await });
    }
    let mut took = Vec::new();
    let mut first_failure = None;
    for end in tries.join_all().await {
        match end {
            End::Answered(StatusCode::OK, time) => {
                counts.ok += 1;
                took.push(time.as_millis());
            }
            End::Answered(status, _) => {
                counts.other_status += 1;
                first_failure.get_or_insert(format!("answered with status {status}"));
            }
            End::Refused => counts.refused += 1,
            End::Reset => counts.reset += 1,
            End::TimedOut => counts.timed_out += 1,
            End::Failed(why) => {
                counts.failed += 1;
                first_failure.get_or_insert(why);
            }
        }
    }
    took.sort_unstable();
    counts.slowest_ms = took.last().copied().unwrap_or_default();
    counts.median_ms = took.get(took.len() / 2).copied().unwrap_or_default();
    counts.p99_ms = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
    if let Some(why) = first_failure {
        say(&format!("first failure: {why}"));
    }
    say(&serde_json::to_string(&counts)?);
    Ok(())
}

async fn one(url: &Url) -> End {
    let start = Instant::now();
    let mut connection = match timeout(PATIENCE, Connection::open(url)).await {
        Err(_) => return End::TimedOut,
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            return match kind {
                Some(ErrorKind::ConnectionRefused) => End::Refused,
                Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => End::Reset,
                Some(ErrorKind::TimedOut) => End::TimedOut,
                _ => End::Failed(format!("{error:#}")),
            };
        }
    };
    match timeout(PATIENCE, connection.get(url)).await {
        Err(_) => End::TimedOut,
        Ok(Ok((status, _))) => End::Answered(status, start.elapsed()),
        Ok(Err(_)) => End::Reset,
    }
}
