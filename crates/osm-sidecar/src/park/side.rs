//! One of the proxy's ports on one address family: who gets its connections now, and what happens when that changes.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use nix::sys::stat::fstat;
use osm_runtime::clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lot::{Lot, Place};
use super::steer::{Steer, steer};
use super::{Closing, Programmed, duplicates, table};

/// Between two looks for Envoy's sockets, if they are not there although it is programmed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// After the kernel would not give out a connection, as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The state of one port.
#[derive(Debug)]
pub(super) struct Side {
    lot: Arc<Lot>,
    programmed: watch::Receiver<Option<Programmed>>,
    /// How long handshakes that had begun with an Envoy that is gone may take to be completed, in its queues.
    handshake_limit: Duration,
    sockets: Sockets,
    /// The run that was told of last.
    present: Option<Programmed>,
    /// Whether Envoy gets new connections.
    is_handed_over: bool,
    /// When to look for the present run's sockets again.
    hand_over_at: Option<Instant>,
    /// Whether the log knows that sockets cannot be duplicated.
    is_said: bool,
}

/// The sockets that the agent has on the port.
#[derive(Debug)]
struct Sockets {
    /// None once the parking is over.
    guard: Option<TcpListener>,
    /// Of the Envoy that runs: not touched before it is gone.
    duplicates: Vec<std::net::TcpListener>,
    /// Of Envoys that are gone, and since when: the agent accepts from these. They are closed when the next one goes: as
    /// long as an Envoy has connections, no place in the group must change.
    left: Vec<(Instant, TcpListener)>,
}

impl Side {
    pub(super) fn new(
        guard: TcpListener,
        lot: Arc<Lot>,
        programmed: watch::Receiver<Option<Programmed>>,
        handshake_limit: Duration,
    ) -> Side {
        Side {
            lot,
            programmed,
            handshake_limit,
            sockets: Sockets { guard: Some(guard), duplicates: Vec::new(), left: Vec::new() },
            present: None,
            is_handed_over: false,
            hand_over_at: None,
            is_said: false,
        }
    }

    /// Parks until it is asked to close, and carries what was parked until `stop`.
    pub(super) async fn run(mut self, closing: Closing, stop: CancellationToken) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        self.steer(Steer::ToGuard);
        self.programmed.mark_changed();
        loop {
            let (lot, mut arrived) = (self.lot.clone(), Vec::new());
            // All are cancel safe.
            tokio::select! {
                (place, client) = next(&lot, &self.sockets) => {
                    connections.spawn(lot.clone().carry(Some(place), client));
                }
                Ok(()) = self.programmed.changed() => {
                    let now = *self.programmed.borrow_and_update();
                    arrived = self.follow(now);
                }
                () = reaches(self.hand_over_at) => self.hand_over(),
                Some(_) = connections.join_next() => {}
                () = closing.asked.cancelled(), if self.sockets.guard.is_some() => arrived = self.close(),
                () = stop.cancelled() => return Ok(()),
            }
            for client in arrived {
                connections.spawn(lot.clone().carry(lot.free_place(), client));
            }
            if self.sockets.guard.is_none() {
                closing.done.cancel();
            }
        }
    }

    /// Takes in which run carries connections now. What had arrived at sockets that are closed for it is given back.
    fn follow(&mut self, now: Option<Programmed>) -> Vec<TcpStream> {
        if self.sockets.guard.is_none() || std::mem::replace(&mut self.present, now) == now {
            return Vec::new();
        }
        let was_handed_over = std::mem::take(&mut self.is_handed_over);
        let arrived = if was_handed_over { self.take_over() } else { Vec::new() };
        self.hand_over();
        arrived
    }

    /// New connections come to the guard again, and what Envoy has left in its queues too.
    fn take_over(&mut self) -> Vec<TcpStream> {
        self.steer(Steer::ToGuard);
        let now = clock::monotonic();
        let limit = self.handshake_limit;
        let old = self.sockets.left.extract_if(.., |(since, _)| now.duration_since(*since) > limit);
        let arrived = old.flat_map(|(_, listener)| drained(listener)).collect();
        let duplicates = std::mem::take(&mut self.sockets.duplicates);
        if !duplicates.is_empty() {
            tracing::info!(sockets = duplicates.len(), "Envoy is gone; its connections are taken from its queues");
        }
        self.lot.counts().taken_over.fetch_add(duplicates.len() as u64, Ordering::Relaxed);
        self.sockets.left.extend(duplicates.into_iter().filter_map(|duplicate| {
            duplicate.set_nonblocking(true).ok()?;
            Some((now, TcpListener::from_std(duplicate).ok()?))
        }));
        arrived
    }

    /// New connections go to Envoy from here on, if it is programmed.
    fn hand_over(&mut self) {
        self.hand_over_at = None;
        let (Some(to), Some(guard)) = (self.present, &self.sockets.guard) else { return };
        let Ok(address) = guard.local_addr() else { return };
        let left = self.sockets.left.iter().map(|(_, listener)| listener);
        let own: Vec<u64> = left.chain([guard]).filter_map(inode).collect();
        let theirs: Vec<u64> = table::listening(address).into_iter().filter(|inode| !own.contains(inode)).collect();
        let Ok(sockets @ 1..) = u32::try_from(theirs.len()) else {
            self.hand_over_at = Some(clock::monotonic() + LOOK_INTERVAL);
            return;
        };
        // Before Envoy has any connection that could be lost with it.
        match duplicates::of(to.pid, &theirs).context("duplicating Envoy's listening sockets") {
            Ok(duplicates) => self.sockets.duplicates = duplicates,
            Err(error) if !std::mem::replace(&mut self.is_said, true) => {
                let error = format!("{error:#}");
                tracing::info!(error, "if Envoy is killed, connections that it has not accepted yet are lost");
            }
            Err(_) => {}
        }
        let between = u32::try_from(self.sockets.left.len()).unwrap_or(0);
        self.steer(Steer::ToEnvoy { between, sockets });
        self.is_handed_over = true;
        self.lot.counts().hand_overs.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(run = to.run, sockets, duplicates = self.sockets.duplicates.len(), "handed over to Envoy");
    }

    /// Whoever connects from here on is Envoy's, or waits in the kernel. What had arrived is given back.
    fn close(&mut self) -> Vec<TcpStream> {
        (self.present, self.hand_over_at) = (None, None);
        self.sockets.duplicates.clear();
        let left = self.sockets.left.drain(..).map(|(_, listener)| listener);
        left.chain(self.sockets.guard.take()).flat_map(drained).collect()
    }

    fn steer(&self, to: Steer) {
        let Some(guard) = &self.sockets.guard else { return };
        self.lot.counts().is_handed_over.store(to != Steer::ToGuard, Ordering::Relaxed);
        if let Err(error) = steer(guard, to) {
            // Without the filter the kernel chooses among all of the group, and the agent carries its part for good.
            let direction = self.lot.direction().name();
            tracing::warn!(direction, error = error.to_string(), "new connections cannot be steered");
        }
    }
}

/// The next connection, once there is a place for it. Cancel safe.
async fn next(lot: &Lot, sockets: &Sockets) -> (Place, TcpStream) {
    let place = lot.place().await;
    let accept = || {
        poll_fn(|context| {
            for listener in sockets.left.iter().map(|(_, listener)| listener).chain(&sockets.guard) {
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
    };
    loop {
        match accept().await {
            Ok((client, _)) => return (place, client),
            Err(error) => {
                tracing::debug!(error = error.to_string(), "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes a listening socket, and gives back what is in its queue.
fn drained(listener: TcpListener) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    // tokio would look only where it has been told of something; the kernel knows more.
    let Ok(listener) = listener.into_std() else { return clients };
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                clients.extend(client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)).ok());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return clients,
        }
    }
}

fn inode(listener: &TcpListener) -> Option<u64> {
    fstat(listener).ok().map(|stat| stat.st_ino)
}

/// Never, if there is no such time.
async fn reaches(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
