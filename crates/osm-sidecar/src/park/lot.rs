//! The connections that wait, and the way of each from the agent to Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use osm_runtime::clock;
use tokio::io::{AsyncWriteExt, Interest, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, sleep_until};

use super::counts::{Bound, Counts, Share, SideCounts};
use super::proxy_header::{Ends, proxy_header};
use super::{Direction, Programmed};
use crate::complaint::Complaint;
use crate::config::ParkLimits;

/// Between two looks at how much a connection has sent while it waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After Envoy did not take a connection although it is programmed: it has just died, or its queue is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// While there are too many bytes.
const BYTES_INTERVAL: Duration = Duration::from_millis(100);

/// The connections of one of the proxy's ports.
#[derive(Debug)]
pub(super) struct Lot {
    direction: Direction,
    /// Where Envoy takes them.
    socket: PathBuf,
    limits: ParkLimits,
    places: Arc<Semaphore>,
    programmed: watch::Receiver<Option<Programmed>>,
    counts: Arc<Counts>,
    /// Whether the last who asked had to wait for a place.
    is_full: AtomicBool,
    complaint: Mutex<Complaint>,
}

/// A place for one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Lot {
    pub(super) fn new(
        direction: Direction,
        socket: PathBuf,
        limits: ParkLimits,
        programmed: watch::Receiver<Option<Programmed>>,
        counts: Arc<Counts>,
    ) -> Lot {
        let places = Arc::new(Semaphore::new(limits.connections));
        let (is_full, complaint) = (AtomicBool::new(false), Mutex::default());
        Lot { direction, socket, limits, places, programmed, counts, is_full, complaint }
    }

    pub(super) fn counts(&self) -> &SideCounts {
        self.counts.of(self.direction)
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// A place for one more connection, as soon as there is one. Until then connections stay in the kernel's queue, and
    /// when that is full, the kernel does not answer handshakes any more: they are repeated. Cancel safe.
    pub(super) async fn place(&self) -> Place {
        if self.places.available_permits() == 0 && !self.is_full.swap(true, Ordering::Relaxed) {
            let reason = format!("{} connections wait; more wait in the kernel", self.limits.connections);
            self.hit(Bound::Connections, reason);
        }
        let permit = self.places.clone().acquire_owned().await.expect("nobody closes it");
        let bytes = || self.counts().waiting_bytes.load(Ordering::Relaxed);
        if bytes() > self.limits.bytes && !self.is_full.swap(true, Ordering::Relaxed) {
            let reason = format!("connections that wait have sent {} bytes; more wait in the kernel", bytes());
            self.hit(Bound::Bytes, reason);
        }
        while bytes() > self.limits.bytes {
            sleep(BYTES_INTERVAL).await;
        }
        self.is_full.store(false, Ordering::Relaxed);
        Place(permit)
    }

    /// A place for a connection that cannot be left in the kernel, if there is one.
    pub(super) fn free_place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Keeps a connection until Envoy takes it, and carries it to its end.
    pub(super) async fn carry(self: Arc<Lot>, place: Option<Place>, mut client: TcpStream) {
        let counts = self.counts();
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let header = proxy_header(ends(&client));
        // What goes through two sockets must not wait in either.
        let _ = client.set_nodelay(true);
        let Some(mut envoy) = self.taken_by_envoy(&client, &header).await else { return };
        drop(place);
        counts.handed_over.fetch_add(1, Ordering::Relaxed);
        // An end that goes away in the middle is its own affair; the other one sees it.
        let _ = copy_bidirectional(&mut client, &mut envoy).await;
    }

    /// Waits until Envoy has taken the connection. Not a byte of the client's is read before; none if it is given up.
    async fn taken_by_envoy(&self, client: &TcpStream, header: &[u8]) -> Option<UnixStream> {
        let counts = self.counts();
        let _waits = Share::new(&counts.waiting, 1);
        let mut bytes = Share::new(&counts.waiting_bytes, 0);
        let mut programmed = self.programmed.clone();
        let give_up_at = clock::monotonic() + self.limits.time;
        loop {
            let is_programmed = async {
                // The sender lives as long as the agent.
                let _ = programmed.wait_for(Option::is_some).await;
            };
            // All are cancel safe.
            tokio::select! {
                biased;
                () = is_programmed => match self.connect(header).await {
                    Ok(envoy) => return Some(envoy),
                    Err(_) => sleep(RETRY_INTERVAL).await,
                },
                // The client reset it.
                _ = client.ready(Interest::ERROR) => return None,
                () = sleep(LOOK_INTERVAL) => bytes.set(rustix::io::ioctl_fionread(client).unwrap_or(0)),
                () = sleep_until(give_up_at) => {}
            }
            if clock::monotonic() >= give_up_at {
                self.hit(Bound::Time, format!("a connection has waited for {:?} and is closed", self.limits.time));
                return None;
            }
        }
    }

    async fn connect(&self, header: &[u8]) -> std::io::Result<UnixStream> {
        let mut envoy = UnixStream::connect(&self.socket).await?;
        envoy.write_all(header).await?;
        Ok(envoy)
    }

    fn hit(&self, bound: Bound, reason: String) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if complaint.is_due(bound.name(), clock::monotonic()) {
            tracing::warn!(direction = self.direction.name(), reason, "parking is at its bound");
        }
        self.counts().hit(bound, reason, clock::now());
    }
}

/// Where the connection comes from and where it was meant to go before it was redirected; none if nobody redirected it.
fn ends(client: &TcpStream) -> Option<Ends> {
    let (source, local) = (client.peer_addr().ok()?, client.local_addr().ok()?);
    let destination = if local.ip().to_canonical().is_ipv4() {
        let original = getsockopt(client, sockopt::OriginalDst).ok()?;
        let ip = std::net::Ipv4Addr::from(u32::from_be(original.sin_addr.s_addr));
        SocketAddr::from((ip, u16::from_be(original.sin_port)))
    } else {
        let original = getsockopt(client, sockopt::Ip6tOriginalDst).ok()?;
        SocketAddr::from((original.sin6_addr.s6_addr, u16::from_be(original.sin6_port)))
    };
    let is_redirected = (destination.ip(), destination.port()) != (local.ip().to_canonical(), local.port());
    is_redirected.then_some(Ends { source, destination })
}

#[cfg(test)]
mod tests;
