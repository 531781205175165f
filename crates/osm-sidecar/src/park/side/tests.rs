use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::*;
use crate::config::ParkLimits;
use crate::park::counts::Counts;
use crate::park::{Direction, listen};
use crate::scratch::Scratch;

/// For anything that the machine may be slow with.
const DEADLINE: Duration = Duration::from_secs(20);

/// On the loopback interface it takes less.
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(20);

/// What comes before the first byte of a connection that nobody redirected.
const HEADER_BYTES: usize = 16;

struct Bench {
    address: SocketAddr,
    publish: watch::Sender<Option<Programmed>>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    closing: Closing,
    scratch: Scratch,
}

impl Bench {
    /// A side that parks, and what takes from it in Envoy's place.
    fn new(name: &str) -> Bench {
        let scratch = Scratch::new(name);
        let guard = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = guard.local_addr().unwrap();
        let (publish, programmed) = watch::channel(None);
        let (counts, socket) = (Arc::<Counts>::default(), scratch.path().join("parked.sock"));
        let limits = ParkLimits { connections: 1000, bytes: 1 << 20, time: DEADLINE };
        let twin = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = twin.accept().await {
                tokio::spawn(answer(stream, HEADER_BYTES));
            }
        });
        let lot = Lot::new(Direction::Outbound, socket, limits, programmed.clone(), counts.clone());
        let (closing, stop) = (Closing::default(), CancellationToken::new());
        tokio::spawn(Side::new(guard, Arc::new(lot), programmed, HANDSHAKE_LIMIT).run(closing.clone(), stop.clone()));
        Bench { address, publish, counts, stop, closing, scratch }
    }

    fn count(&self, of: fn(&crate::park::counts::SideCounts) -> &AtomicU64) -> u64 {
        of(self.counts.of(Direction::Outbound)).load(Ordering::Relaxed)
    }

    async fn until(&self, what: &str, condition: impl Fn(&Bench) -> bool) {
        let holds = async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, holds).await.unwrap_or_else(|_| panic!("not {what}: {:?}", self.counts));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Answers one byte with one byte, after a header of so many.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, header: usize) {
    let mut heard = vec![0; header + 1];
    if stream.read_exact(&mut heard).await.is_ok() {
        let _ = stream.write_all(&heard[header..]).await;
    }
}

/// One connection, from its handshake to its answer.
async fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"?").await?;
    stream.read_exact(&mut [0]).await?;
    // No connection of many is to wait for the time that closed ones stay in the kernel.
    stream.set_zero_linger()
}

/// Sockets of an Envoy of this process.
fn envoy(address: SocketAddr) -> Vec<tokio::task::JoinHandle<()>> {
    let worker = |listener: TcpListener| async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, 0));
        }
    };
    (0..2).map(|_| tokio::spawn(worker(listen(address).unwrap()))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_connection_is_lost_or_refused_by_hand_overs() {
    let bench = Bench::new("hand-overs");
    let (address, is_over) = (bench.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let is_over = is_over.clone();
            tokio::spawn(async move {
                let mut asked = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let answered = timeout(DEADLINE, ask(address)).await;
                    answered.map_err(|_| "it took too long".to_owned())?.map_err(|error| error.to_string())?;
                    asked += 1;
                }
                Ok::<u64, String>(asked)
            })
        })
        .collect();
    for run in 1..=100 {
        bench.until("parked", |bench| bench.count(|side| &side.waiting) > 3).await;
        let workers = envoy(address);
        bench.publish.send_replace(Some(Programmed { run, pid: std::process::id() }));
        bench.until("handed over", |bench| bench.count(|side| &side.hand_overs) == run).await;
        // It dies; what it has not accepted stays in the agent's duplicates.
        for worker in workers {
            worker.abort();
            assert!(worker.await.unwrap_err().is_cancelled());
        }
        bench.publish.send_replace(None);
    }
    is_over.store(true, Ordering::Relaxed);
    // Those that wait now are served too.
    bench.publish.send_replace(Some(Programmed { run: 101, pid: std::process::id() }));
    let mut asked = 0;
    for client in clients {
        asked += client.await.unwrap().unwrap();
    }
    assert!(asked > 1000, "only {asked} connections");
    assert_eq!(bench.count(|side| &side.taken_over), 200);
}

/// Has two listening sockets that nobody else has, and never accepts.
fn deaf_envoy(address: SocketAddr) -> Child {
    let sockets =
        [(); 2].map(|()| Stdio::from(std::os::fd::OwnedFd::from(listen(address).unwrap().into_std().unwrap())));
    let [stdin, stdout] = sockets;
    Command::new("sleep").arg("1000").stdin(stdin).stdout(stdout).spawn().unwrap()
}

#[tokio::test]
async fn what_a_killed_envoy_had_not_accepted_is_served_by_the_next_one() {
    let bench = Bench::new("take-over");
    let mut envoy = deaf_envoy(bench.address);
    bench.publish.send_replace(Some(Programmed { run: 1, pid: envoy.id() }));
    bench.until("handed over", |bench| bench.count(|side| &side.hand_overs) == 1).await;
    let asked: Vec<_> = (0..50).map(|_| tokio::spawn(ask(bench.address))).collect();
    let in_queues = || queued(bench.address.port());
    timeout(DEADLINE, async {
        while in_queues() < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} are in its queues", in_queues()));
    assert_eq!(bench.count(|side| &side.accepted), 0);
    envoy.kill().unwrap();
    envoy.wait().unwrap();
    bench.publish.send_replace(None);
    bench.until("accepted", |bench| bench.count(|side| &side.accepted) == 50).await;
    assert!(timeout(Duration::from_millis(20), ask(bench.address)).await.is_err(), "nobody is programmed");
    bench.publish.send_replace(Some(Programmed { run: 2, pid: std::process::id() }));
    for asked in asked {
        timeout(DEADLINE, asked).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(bench.count(|side| &side.taken_over), 2);
}

/// Connections that nobody has accepted, as the kernel counts them in its table of sockets for one that listens.
fn queued(port: u16) -> usize {
    let table = std::fs::read_to_string(Path::new("/proc/self/net/tcp")).unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_here = |row: &Vec<&str>| row[1].ends_with(&format!(":{port:04X}")) && row[3] == "0A";
    let waiting = |row: Vec<&str>| usize::from_str_radix(row[4].split_once(':').unwrap().1, 16).unwrap();
    rows.skip(1).filter(is_here).map(waiting).sum()
}

#[tokio::test]
async fn once_closed_nothing_is_accepted_and_what_had_arrived_is_not_lost() {
    let bench = Bench::new("close");
    let early = tokio::spawn(ask(bench.address));
    bench.until("accepted", |bench| bench.count(|side| &side.accepted) == 1).await;
    bench.closing.asked.cancel();
    timeout(DEADLINE, bench.closing.done.cancelled()).await.unwrap();
    let refused = TcpStream::connect(bench.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    bench.publish.send_replace(Some(Programmed { run: 1, pid: std::process::id() }));
    timeout(DEADLINE, early).await.unwrap().unwrap().unwrap();
    assert!(bench.scratch.path().exists());
}
