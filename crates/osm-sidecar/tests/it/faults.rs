//! What happens to the application when Envoy, the controller or the sidecar itself goes.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_runtime::http::{Limits, get_tcp};

use crate::lab::{DEADLINE, Lab, text, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::resources::{complete, with_a_bad_listener, with_another_route, with_tcp_outbound};

/// The promise is half a second; the rest is for a machine that builds and tests at the same time.
const BACK_WITHIN: Duration = Duration::from_secs(2);

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn envoy_killed_while_the_controller_is_down_is_back_with_all_it_had() {
    let mut lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    lab.controller.stop().await;
    for restart in 1..=3 {
        let (killed, since) = (lab.envoy_pid(), Instant::now());
        signal(killed, Signal::SIGKILL);
        until(BACK_WITHIN, async || lab.request("/").await.is_ok_and(|answer| answer == "hello"));
        assert_ne!(lab.envoy_pid(), killed);
        lab.until_programmed();
        let startup = lab.startup().await;
        assert_eq!(startup["envoyRestartCount"], restart, "{startup}");
        let last = &startup["envoyRestarts"][restart - 1];
        assert_eq!(last["reason"], "was killed by signal 9 (SIGKILL)");
        let took = last["programmed"].as_i64().unwrap() - last["ended"].as_i64().unwrap();
        assert!(took < BACK_WITHIN.as_millis() as i64, "{took} ms");
        record(&format!("restart {restart}: served after {:?}, programmed after {took} ms", since.elapsed()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn envoy_killed_after_a_rejection_comes_back_with_its_last_good_listener() {
    let lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    lab.controller.tell(with_a_bad_listener(lab.ports));
    let is_told = async || lab.startup().await["rejected"][0]["message"].to_string().contains("osm.no_such_filter");
    until(DEADLINE, is_told);
    signal(lab.envoy_pid(), Signal::SIGKILL);
    until(DEADLINE, async || lab.startup().await["envoyRestarts"][0]["programmed"].is_i64());
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
    assert!(is_told().await, "the rejection is not forgotten");
    lab.controller.tell(with_another_route(lab.ports));
    until(DEADLINE, async || lab.controller.is_settled() && lab.startup().await["rejected"] == serde_json::json!([]));
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn envoy_that_hangs_is_replaced() {
    let settings = |config: &mut osm_sidecar::Config| config.envoy.hung_after = Some(Duration::from_secs(1));
    let lab = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    lab.until_programmed();
    let stopped = lab.envoy_pid();
    signal(stopped, Signal::SIGSTOP);
    until(DEADLINE, async || lab.envoys().iter().any(|pid| *pid != stopped));
    lab.until_programmed();
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_lets_requests_under_way_finish_and_leaves_no_envoy() {
    // A request takes longer than connections may after a change of configuration; at a stop it must not matter.
    let settings = |config: &mut osm_sidecar::Config| config.envoy.connection_drain = Duration::from_secs(1);
    let mut lab = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    lab.until_programmed();
    let address = SocketAddr::from(([127, 0, 0, 1], lab.ports.outbound));
    let limits = Limits { timeout: DEADLINE, ..Limits::default() };
    let request = tokio::spawn(get_tcp(address, "/slow", limits));
    // The request is under way when Envoy counts it.
    until(DEADLINE, async || {
        let stats = get_tcp(lab.admin, "/stats?filter=downstream_rq_active", Limits::default()).await.unwrap();
        text(&stats).contains("http.outbound.80.downstream_rq_active: 1")
    });
    lab.stop().await.unwrap();
    assert_eq!(text(&request.await.unwrap().unwrap()), "hello at last");
    assert_eq!(lab.envoys(), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_end_soon_after_the_configuration_that_they_came_in_under() {
    let settings = |config: &mut osm_sidecar::Config| config.envoy.connection_drain = Duration::from_secs(1);
    let lab = Lab::start_with(|ports| Some(with_tcp_outbound(ports, "before")), settings).await;
    lab.until_programmed();
    let mut connection = TcpStream::connect(("127.0.0.1", lab.ports.outbound)).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    assert!(connection.read(&mut answer).await.unwrap() > 0, "the connection is in use");
    lab.controller.tell(with_tcp_outbound(lab.ports, "after"));
    // By default it would live for 10 minutes more.
    let rest = tokio::time::timeout(DEADLINE, connection.read(&mut answer)).await.expect("the connection ends");
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    assert!(lab.ready().await.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_certificate_is_renewed_in_time_and_envoy_gets_the_new_one() {
    let (controller, ports) = Lab::prepare(|ports| Some(complete(ports))).await;
    *controller.certificates.lifetime.lock().unwrap() = SignedDuration::from_secs(6);
    let lab = Lab::start_beside(controller, ports, |_| ()).await;
    lab.until_programmed();
    let serial = async || {
        let certs = get_tcp(lab.admin, "/certs", Limits::default()).await.unwrap();
        let certs: serde_json::Value = serde_json::from_slice(certs.body()).unwrap();
        certs["certificates"][0]["cert_chain"][0]["serial_number"].as_str().map(ToOwned::to_owned)
    };
    let first = until(DEADLINE, serial);
    until(DEADLINE, async || {
        assert!(lab.ready().await.0, "{}", lab.ready().await.1);
        serial().await.is_some_and(|now| now != first)
    });
    assert!(*lab.controller.certificates.issued.lock().unwrap() >= 2);
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_may_not_have_is_closed_to_them() {
    let lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    until(DEADLINE, async || lab.last_good().exists());
    assert_eq!(mode(&lab.state_dir()), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(lab.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let sockets = ["admin.sock", "parked-inbound.sock", "parked-outbound.sock", "pulse.sock", "xds.sock"];
    let mut expected = [&sockets[..], &["bootstrap.json", "last-good.state"]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(abstract_sockets(lab.envoy_pid()), Vec::<String>::new(), "nobody can be kept out of these");
    for path in ["/quitquitquit", "/logging", "/runtime_modify?a=b", "/drain_listeners"] {
        assert_eq!(get_tcp(lab.admin, path, Limits::default()).await.unwrap().status(), 403, "{path}");
    }
    let dump = get_tcp(lab.admin, "/config_dump?include_eds", Limits::default()).await.unwrap();
    assert!(text(&dump).contains("service-cert") && !text(&dump).contains("PRIVATE KEY"));
    let metrics = get_tcp(lab.metrics, "/stats/prometheus", Limits::default()).await.unwrap();
    assert!(text(&metrics).contains("envoy_cluster_upstream_cx_total"), "{}", text(&metrics));
    assert_eq!(get_tcp(lab.metrics, "/config_dump", Limits::default()).await.unwrap().status(), 403);
}

/// The names of the abstract sockets that a process has open.
fn abstract_sockets(pid: i32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned));
    let inodes: Vec<String> =
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    assert!(!inodes.is_empty());
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let named = columns.filter(|columns| columns.len() > 7 && inodes.iter().any(|inode| inode == columns[6]));
    named.map(|columns| columns[7].to_owned()).filter(|name| name.starts_with('@')).collect()
}

#[expect(clippy::print_stderr, reason = "the measured times are for who runs the tests")]
fn record(line: &str) {
    eprintln!("{line}");
}
