//! Parking: the agent takes the connections that Envoy cannot take yet, keeps them, and hands them over to Envoy when it
//! is programmed.
//!
//! For each of the proxy's two ports, and for each address family of the pod, the agent has a listening socket of its
//! own, the *guard*, in the same reuseport group as Envoy's sockets. A filter on the group says to whom the kernel gives a new connection: to the guard while no
//! Envoy is programmed, else to Envoy. The guard stays open for as long as the sidecar lives, so that there is no moment
//! at which closing it could lose a connection.

pub mod counts;
mod duplicates;
mod lot;
mod proxy_header;
mod side;
mod steer;
mod table;
pub mod twins;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use osm_redirect::Family;
use osm_runtime::Tasks;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use crate::config::ParkConfig;
use crate::fault::Fault;
use crate::gate;
use crate::ipv6;
use crate::observer::Status;
use crate::state_dir::StateDir;
use counts::Counts;
use lot::Lot;
use side::Side;

/// As long as Linux allows by default (`net.core.somaxconn`): more would be cut down to it.
const BACKLOG: u32 = 4096;

/// After this, a handshake that had begun with an Envoy that is gone is completed, or was repeated elsewhere: the kernel
/// repeats its part after a second.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);

/// How long the supervisor waits for the guards to be closed: they have nothing to wait for themselves.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Which of the proxy's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Where the pod's own connections are redirected to.
    Outbound,
    /// Where connections to the pod are redirected to.
    Inbound,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Outbound, Direction::Inbound];

    /// The word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        }
    }

    /// Where Envoy takes what was parked.
    pub fn socket(self, state_dir: &StateDir) -> PathBuf {
        state_dir.path().join(format!("parked-{}.sock", self.name()))
    }
}

/// The run of Envoy that carries connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programmed {
    /// Counts the starts, from 1.
    pub run: u64,
    /// Its process id.
    pub pid: u32,
}

impl Programmed {
    /// The run that has been programmed and has not ended; what is wrong with it since does not count, as it goes on
    /// carrying what it can.
    pub fn of(status: &Status, envoy: &gate::Envoy) -> Option<Programmed> {
        match *envoy {
            gate::Envoy::Running { run, pid } if status.gate.programmed_run() == Some(run) => {
                Some(Programmed { run, pid })
            }
            gate::Envoy::Running { .. }
            | gate::Envoy::Absent
            | gate::Envoy::Unstartable(_)
            | gate::Envoy::Ended { .. } => None,
        }
    }
}

/// The guards, bound before anything else happens: the application may be connecting already.
#[derive(Debug)]
pub struct Guards {
    bound: Vec<(Direction, TcpListener)>,
    config: ParkConfig,
}

/// Ends the parking of one side before Envoy is stopped for good: what nobody will ever serve must not be accepted.
#[derive(Clone, Debug, Default)]
struct Closing {
    asked: CancellationToken,
    done: CancellationToken,
}

/// The parking of both sides, which is over before Envoy is stopped for good.
#[derive(Clone, Debug, Default)]
pub struct Parking {
    sides: Vec<Closing>,
}

impl Parking {
    /// Closes the guards. Whoever connects from here on is Envoy's, or waits in the kernel.
    pub async fn close(&self) {
        for side in &self.sides {
            side.asked.cancel();
        }
        for side in &self.sides {
            // A side that is not there any more has no guard either.
            let _ = timeout(CLOSE_LIMIT, side.done.cancelled()).await;
        }
    }
}

impl Guards {
    /// Binds them. What cannot be bound for IPv4 is left to the kernel's hold, and the log says why.
    ///
    /// # Errors
    /// When one cannot be bound for IPv6: whoever has no sockets of that family has no Envoy that listens there either,
    /// and what the rules lead there would wait for ever.
    pub fn bind(config: ParkConfig, families: &[Family]) -> anyhow::Result<Guards> {
        let addresses = [(Direction::Outbound, config.outbound), (Direction::Inbound, config.inbound)];
        let wanted = addresses.into_iter().filter(|_| config.limits.is_some());
        let places = wanted.flat_map(|(direction, address)| {
            ipv6::places(address, families).into_iter().map(move |address| (direction, address))
        });
        let mut bound = Vec::new();
        for (direction, address) in places {
            match listen(address) {
                Ok(listener) => bound.push((direction, listener)),
                Err(error) if address.is_ipv4() => {
                    let (direction, error) = (direction.name(), error.to_string());
                    tracing::warn!(direction, %address, error, "connections are not parked; they wait in the kernel");
                }
                Err(error) => {
                    let purpose = format!("{} connections over IPv6", direction.name());
                    let fault = Fault::listening(&error, address, &purpose);
                    return Err(anyhow::Error::from(error).context(fault));
                }
            }
        }
        Ok(Guards { bound, config })
    }

    /// Starts to park.
    pub fn spawn(
        self,
        tasks: &Tasks,
        state_dir: &StateDir,
        programmed: &watch::Receiver<Option<Programmed>>,
        counts: &Arc<Counts>,
    ) -> Parking {
        let mut parking = Parking::default();
        let Some(limits) = self.config.limits else { return parking };
        // The bounds are those of the direction, whatever the family: where a connection comes from and goes to is said to
        // Envoy over one socket.
        let lots = Direction::ALL.map(|direction| {
            let socket = direction.socket(state_dir);
            (direction, Arc::new(Lot::new(direction, socket, limits, programmed.clone(), counts.clone())))
        });
        let lots = BTreeMap::from(lots);
        for (direction, guard) in self.bound {
            let side = Side::new(guard, lots[&direction].clone(), programmed.clone(), HANDSHAKE_LIMIT);
            let closing = Closing::default();
            parking.sides.push(closing.clone());
            let span = info_span!("park", direction = direction.name());
            tasks.spawn("parking", span, side.run(closing, tasks.stop()));
        }
        parking
    }
}

/// As Envoy does it, so that both can be in one group.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = ipv6::socket(address)?;
    // The first for connections of an earlier life that have not quite ended, the second for the group.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Tells which run is programmed.
pub fn follow(
    tasks: &Tasks,
    mut status: watch::Receiver<Arc<Status>>,
    mut envoy: watch::Receiver<gate::Envoy>,
) -> watch::Receiver<Option<Programmed>> {
    let (publish, programmed) = watch::channel(None);
    let stop = tasks.stop();
    tasks.spawn("programmed", info_span!("programmed"), async move {
        loop {
            let now = Programmed::of(&status.borrow_and_update(), &envoy.borrow_and_update());
            publish.send_if_modified(|last| std::mem::replace(last, now) != now);
            // Both are cancel safe, and their senders live as long as the agent.
            tokio::select! {
                Ok(()) = status.changed() => {}
                Ok(()) = envoy.changed() => {}
                () = stop.cancelled() => return Ok(()),
                else => return Ok(()),
            }
        }
    });
    programmed
}
