use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;

use super::*;
use crate::scratch::Scratch;

/// The first part of every PROXY header of a connection that nobody redirected.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const LIMITS: ParkLimits = ParkLimits { connections: 2, bytes: 10, time: Duration::from_secs(60) };

/// For anything that the machine may be slow with.
const DEADLINE: Duration = Duration::from_secs(10);

struct Bench {
    lot: Arc<Lot>,
    publish: watch::Sender<Option<Programmed>>,
    listener: TcpListener,
    scratch: Scratch,
}

impl Bench {
    async fn new(name: &str, limits: ParkLimits) -> Bench {
        let scratch = Scratch::new(name);
        let (publish, programmed) = watch::channel(None);
        let socket = scratch.path().join("parked.sock");
        let lot = Arc::new(Lot::new(Direction::Outbound, socket, limits, programmed, Arc::default()));
        Bench { lot, publish, listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), scratch }
    }

    /// A client whose connection is in the lot.
    async fn park(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let place = timeout(DEADLINE, self.lot.place()).await.unwrap();
        let (stream, _) = self.listener.accept().await.unwrap();
        tokio::spawn(self.lot.clone().carry(Some(place), stream));
        client
    }

    fn envoy(&self) -> UnixListener {
        UnixListener::bind(self.scratch.path().join("parked.sock")).unwrap()
    }

    fn programmed(&self, run: u64) {
        self.publish.send_replace(Some(Programmed { run, pid: 1 }));
    }

    async fn until(&self, what: &str, condition: impl Fn(&SideCounts) -> bool) {
        let holds = async {
            while !condition(self.lot.counts()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, holds).await.unwrap_or_else(|_| panic!("not {what}: {:?}", self.lot.counts()));
    }
}

fn waiting(counts: &SideCounts) -> u64 {
    counts.waiting.load(Ordering::Relaxed)
}

async fn heard(envoy: &mut UnixStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    timeout(DEADLINE, envoy.read_exact(&mut heard)).await.unwrap().unwrap();
    heard
}

#[tokio::test]
async fn whoever_waits_is_carried_once_envoy_is_programmed_and_the_server_may_speak_first() {
    let bench = Bench::new("lot-carry", LIMITS).await;
    let mut client = bench.park().await;
    client.write_all(b"hello").await.unwrap();
    bench.until("waiting", |counts| waiting(counts) == 1).await;
    let envoy = bench.envoy();
    bench.programmed(1);
    let (mut envoy, _) = timeout(DEADLINE, envoy.accept()).await.unwrap().unwrap();
    envoy.write_all(b"greeting").await.unwrap();
    let mut greeting = [0; 8];
    timeout(DEADLINE, client.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(heard(&mut envoy, HEADER.len()).await, HEADER);
    assert_eq!(heard(&mut envoy, 5).await, b"hello");
    bench.until("carried", |counts| waiting(counts) == 0).await;
    client.shutdown().await.unwrap();
    assert_eq!(timeout(DEADLINE, envoy.read(&mut [0])).await.unwrap().unwrap(), 0, "a half that is closed is closed");
    envoy.write_all(b"bye").await.unwrap();
    timeout(DEADLINE, client.read_exact(&mut [0; 3])).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_envoy_that_does_not_take_it_costs_nothing_but_time() {
    let bench = Bench::new("lot-again", LIMITS).await;
    // Nobody listens there yet.
    bench.programmed(1);
    let mut client = bench.park().await;
    client.write_all(b"hello").await.unwrap();
    bench.until("waiting", |counts| waiting(counts) == 1).await;
    let envoy = bench.envoy();
    let (mut envoy, _) = timeout(DEADLINE, envoy.accept()).await.unwrap().unwrap();
    assert_eq!(heard(&mut envoy, HEADER.len() + 5).await, [HEADER, b"hello"].concat());
}

#[tokio::test]
async fn above_the_bound_connections_stay_in_the_kernel_and_the_reason_is_told_once() {
    let bench = Bench::new("lot-full", LIMITS).await;
    let (first, _second) = (bench.park().await, bench.park().await);
    for _ in 0..2 {
        assert!(timeout(Duration::from_millis(20), bench.lot.place()).await.is_err());
    }
    let hits = bench.lot.counts().bounds_hit.each_ref().map(|hits| hits.load(Ordering::Relaxed));
    assert_eq!(hits, [1, 0, 0]);
    let page = serde_json::to_string(&bench.lot.counts.standing()).unwrap();
    assert!(page.contains("2 connections wait; more wait in the kernel"), "{page}");
    // A client that resets its connection makes room.
    first.set_zero_linger().unwrap();
    drop(first);
    timeout(DEADLINE, bench.lot.place()).await.unwrap();
}

#[tokio::test]
async fn those_that_send_too_much_while_they_wait_keep_others_in_the_kernel() {
    let bench = Bench::new("lot-bytes", LIMITS).await;
    let mut client = bench.park().await;
    client.write_all(&[0; 11]).await.unwrap();
    bench.until("measured", |counts| counts.waiting_bytes.load(Ordering::Relaxed) == 11).await;
    assert!(timeout(Duration::from_millis(20), bench.lot.place()).await.is_err());
    let _envoy = bench.envoy();
    bench.programmed(1);
    timeout(DEADLINE, bench.lot.place()).await.unwrap();
    assert_eq!(bench.lot.counts().bounds_hit[Bound::Bytes as usize].load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn whoever_has_waited_too_long_is_closed_with_a_reason() {
    let bench = Bench::new("lot-time", ParkLimits { time: Duration::from_millis(50), ..LIMITS }).await;
    let mut client = bench.park().await;
    let closed = timeout(DEADLINE, client.read(&mut [0])).await.unwrap();
    assert!(matches!(&closed, Ok(0)) || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    let page = serde_json::to_string(&bench.lot.counts.standing()).unwrap();
    assert!(page.contains("a connection has waited for 50ms and is closed"), "{page}");
}
