//! Startup and readiness probes, sent from the router as the kubelet sends them from its node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Request, header::HOST};
use http_body_util::Full;
use hyper::body::Bytes;
use osm_api::k8s;
use osm_runtime::{clock, http as client};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::endpoints::named_port;

/// How often a probe that has not passed yet is sent, unless its period is shorter. The kubelet waits a whole period,
/// which would make every pod of a test a second slower for nothing; a failure still counts by the period.
const EAGER_PERIOD: Duration = Duration::from_millis(50);
/// More of an answer is not read: its status is enough.
const BODY_LIMIT_BYTES: usize = 1 << 20;

/// What a container's probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe passed.
    Started,
    /// The startup probe has failed for too long.
    StartupFailed,
    /// The readiness probe began or stopped to pass.
    Ready(bool),
}

/// The probes of one container, ready to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    startup: Option<Check>,
    readiness: Option<Check>,
}

/// One probe.
#[derive(Clone, Debug)]
struct Check {
    how: How,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

#[derive(Clone, Debug)]
enum How {
    Http { address: SocketAddr, path: String, headers: Vec<(String, String)> },
    Tcp { address: SocketAddr },
}

impl Probes {
    /// The probes of a container of a pod.
    pub(crate) fn of(container: &k8s::Container, pod: &k8s::Pod, ip: Ipv4Addr) -> Probes {
        let check = |probe: &Option<k8s::Probe>| probe.as_ref().and_then(|probe| Check::of(probe, pod, ip));
        Probes { startup: check(&container.startup_probe), readiness: check(&container.readiness_probe) }
    }

    /// Sends the probes until nobody listens; what changes is sent as `event` makes it.
    pub(crate) async fn run<E>(self, events: mpsc::Sender<E>, event: impl Fn(Verdict) -> E) {
        if let Some(startup) = self.startup {
            let verdict = if startup.passes_in_time().await { Verdict::Started } else { Verdict::StartupFailed };
            if events.send(event(verdict)).await.is_err() || verdict == Verdict::StartupFailed {
                return;
            }
        }
        let Some(readiness) = self.readiness else { return };
        sleep(readiness.delay).await;
        let (mut is_ready, mut in_a_row) = (false, 0);
        loop {
            let passes = readiness.passes().await;
            in_a_row = if passes == is_ready { 0 } else { in_a_row + 1 };
            let needed = if is_ready { readiness.failures } else { readiness.successes };
            if in_a_row >= needed {
                (is_ready, in_a_row) = (passes, 0);
                if events.send(event(Verdict::Ready(is_ready))).await.is_err() {
                    return;
                }
            }
            sleep(if is_ready { readiness.period } else { readiness.period.min(EAGER_PERIOD) }).await;
        }
    }
}

impl Check {
    fn of(probe: &k8s::Probe, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<Check> {
        let address = |host: &Option<String>, port: &k8s::IntOrString| {
            let host: IpAddr = host.as_ref().and_then(|host| host.parse().ok()).unwrap_or(IpAddr::V4(ip));
            let number = match port {
                k8s::IntOrString::Int(number) => *number,
                k8s::IntOrString::String(name) => named_port(pod, name, "TCP")?,
            };
            Some(SocketAddr::new(host, u16::try_from(number).ok()?))
        };
        let how = match (&probe.http_get, &probe.tcp_socket) {
            (Some(get), _) => How::Http {
                address: address(&get.host, &get.port)?,
                path: get.path.clone().filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into()),
                headers: get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
            },
            (None, Some(tcp)) => How::Tcp { address: address(&tcp.host, &tcp.port)? },
            (None, None) => return None,
        };
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Some(Check {
            how,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        })
    }

    async fn passes_in_time(&self) -> bool {
        sleep(self.delay).await;
        let deadline = clock::monotonic() + self.period * self.failures;
        loop {
            if self.passes().await {
                return true;
            }
            if clock::monotonic() >= deadline {
                return false;
            }
            sleep(self.period.min(EAGER_PERIOD)).await;
        }
    }

    async fn passes(&self) -> bool {
        let passing = async {
            match &self.how {
                How::Tcp { address } => TcpStream::connect(address).await.is_ok(),
                How::Http { address, path, headers } => self.answers(*address, path, headers).await,
            }
        };
        timeout(self.timeout, passing).await.unwrap_or(false)
    }

    async fn answers(&self, address: SocketAddr, path: &str, headers: &[(String, String)]) -> bool {
        let mut request = Request::builder().uri(path).header("user-agent", "kube-probe/osm-local");
        let own_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !own_host {
            request = request.header(HOST, address.to_string());
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let Ok(request) = request.body(Full::new(Bytes::new())) else { return false };
        let Ok(stream) = TcpStream::connect(address).await else { return false };
        let limits = client::Limits { timeout: self.timeout, body_bytes: BODY_LIMIT_BYTES };
        match client::exchange(stream, request, limits).await {
            Ok(answer) => answer.status().is_success() || answer.status().is_redirection(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn container(port: u16, probes: serde_json::Value) -> (k8s::Container, k8s::Pod) {
        let mut container = json!({"name": "c", "ports": [{"name": "http", "containerPort": port}]});
        container.as_object_mut().unwrap().extend(probes.as_object().unwrap().clone());
        let pod: k8s::Pod = serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap();
        (pod.spec.as_ref().unwrap().containers[0].clone(), pod)
    }

    #[tokio::test]
    async fn a_container_is_started_then_ready_then_not_when_its_server_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = json!({"httpGet": {"port": "http", "path": "/ok"}, "periodSeconds": 1, "failureThreshold": 1});
        let probes = json!({"startupProbe": probe, "readinessProbe": probe});
        let (container, pod) = container(listener.local_addr().unwrap().port(), probes);
        let (sender, mut verdicts) = mpsc::channel(4);
        let probes = Probes::of(&container, &pod, Ipv4Addr::LOCALHOST);
        tokio::spawn(probes.run(sender, |verdict| verdict));
        for (status, verdict) in [
            ("503 Not yet", None),
            ("200 OK", Some(Verdict::Started)),
            ("404 No", None),
            ("302 Elsewhere", Some(Verdict::Ready(true))),
            ("500 Broken", Some(Verdict::Ready(false))),
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /ok HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            if verdict.is_some() {
                assert_eq!(verdicts.recv().await, verdict);
            }
        }
    }

    #[tokio::test]
    async fn a_startup_probe_that_never_passes_fails_after_its_periods() {
        let probes = json!({"startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2}});
        let (container, pod) = container(1, probes);
        let (sender, mut verdicts) = mpsc::channel(4);
        let before = clock::monotonic();
        tokio::spawn(Probes::of(&container, &pod, Ipv4Addr::LOCALHOST).run(sender, |verdict| verdict));
        assert_eq!(verdicts.recv().await, Some(Verdict::StartupFailed));
        let took = before.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&took), "{took:?}");
    }
}
