//! Startup, readiness and liveness probes, sent from the router as the kubelet sends them from its node.

use std::net::Ipv4Addr;
use std::time::Duration;

use osm_api::k8s;
use osm_runtime::clock;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::action::Action;
use crate::inside::Inside;

/// How often a probe that has not passed yet is sent, unless its period is shorter. The kubelet waits a whole period,
/// which would make every pod of a test a second slower for nothing; a failure still counts by the period.
const EAGER_PERIOD: Duration = Duration::from_millis(50);
/// What a container's probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe passed.
    Started,
    /// The startup probe has failed for too long.
    StartupFailed,
    /// The readiness probe began or stopped to pass.
    Ready(bool),
    /// The liveness probe has failed too often in a row.
    LivenessFailed,
}

/// The probes of one container, ready to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    startup: Option<Check>,
    readiness: Option<Check>,
    liveness: Option<Check>,
}

/// One probe.
#[derive(Clone, Debug)]
struct Check {
    action: Action,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Probes {
    /// The probes of a container of a pod.
    pub(crate) fn of(container: &k8s::Container, pod: &k8s::Pod, ip: Ipv4Addr) -> Probes {
        let check = |probe: &Option<k8s::Probe>| probe.as_ref().and_then(|probe| Check::of(probe, pod, ip));
        Probes {
            startup: check(&container.startup_probe),
            readiness: check(&container.readiness_probe),
            liveness: check(&container.liveness_probe),
        }
    }

    /// Sends the probes until nobody listens; what changes is sent as `event` makes it.
    pub(crate) async fn run<E>(self, inside: Inside, events: mpsc::Sender<E>, event: impl Fn(Verdict) -> E) {
        if let Some(startup) = &self.startup {
            let verdict = if startup.passes_in_time(&inside).await { Verdict::Started } else { Verdict::StartupFailed };
            if events.send(event(verdict)).await.is_err() || verdict == Verdict::StartupFailed {
                return;
            }
        }
        let readiness = async {
            if let Some(readiness) = &self.readiness {
                readiness.watch(&inside, &events, &event).await;
            }
        };
        let liveness = async {
            if let Some(liveness) = &self.liveness {
                liveness.fails(&inside).await;
                // Nobody who listens is nobody who could be told.
                let _ = events.send(event(Verdict::LivenessFailed)).await;
            }
        };
        tokio::join!(readiness, liveness);
    }
}

impl Check {
    fn of(probe: &k8s::Probe, pod: &k8s::Pod, ip: Ipv4Addr) -> Option<Check> {
        let action = Action::of_probe(probe, pod, ip)?;
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Some(Check {
            action,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        })
    }

    async fn passes_in_time(&self, inside: &Inside) -> bool {
        sleep(self.delay).await;
        let deadline = clock::monotonic() + self.period * self.failures;
        loop {
            if self.action.passes(inside, self.timeout).await {
                return true;
            }
            if clock::monotonic() >= deadline {
                return false;
            }
            sleep(self.period.min(EAGER_PERIOD)).await;
        }
    }

    /// Tells whenever it begins or stops to pass, until nobody listens.
    async fn watch<E>(&self, inside: &Inside, events: &mpsc::Sender<E>, event: &impl Fn(Verdict) -> E) {
        sleep(self.delay).await;
        let (mut is_ready, mut in_a_row) = (false, 0);
        loop {
            let passes = self.action.passes(inside, self.timeout).await;
            in_a_row = if passes == is_ready { 0 } else { in_a_row + 1 };
            let needed = if is_ready { self.failures } else { self.successes };
            if in_a_row >= needed {
                (is_ready, in_a_row) = (passes, 0);
                if events.send(event(Verdict::Ready(is_ready))).await.is_err() {
                    return;
                }
            }
            sleep(if is_ready { self.period } else { self.period.min(EAGER_PERIOD) }).await;
        }
    }

    /// Returns once it has failed so often in a row that the container is taken for dead.
    async fn fails(&self, inside: &Inside) {
        sleep(self.delay).await;
        let mut in_a_row = 0;
        loop {
            in_a_row = if self.action.passes(inside, self.timeout).await { 0 } else { in_a_row + 1 };
            if in_a_row >= self.failures {
                return;
            }
            sleep(self.period).await;
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

    /// For probes that run no command.
    fn nobody() -> Inside {
        let process = serde_json::from_value(json!({
            "command": [], "env": {}, "directory": "/", "uid": 0, "gid": 0, "groups": [],
            "capabilities": null, "has_no_new_privileges": false, "ends_with_parent": false}));
        Inside { pid: 0, process: process.unwrap(), folder: "/nowhere".into() }
    }

    #[tokio::test]
    async fn a_container_is_taken_for_dead_after_so_many_failures_in_a_row() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = json!({"httpGet": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 2});
        let (container, pod) = container(listener.local_addr().unwrap().port(), json!({"livenessProbe": probe}));
        let (sender, mut verdicts) = mpsc::channel(4);
        let probes = Probes::of(&container, &pod, Ipv4Addr::LOCALHOST);
        tokio::spawn(probes.run(nobody(), sender, |verdict| verdict));
        for status in ["500 Broken", "200 OK", "500 Broken", "500 Broken"] {
            assert!(verdicts.try_recv().is_err(), "too early, before {status}");
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0, "a request comes before an answer");
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert_eq!(verdicts.recv().await, Some(Verdict::LivenessFailed));
        assert_eq!(verdicts.recv().await, None);
    }

    #[tokio::test]
    async fn a_container_is_started_then_ready_then_not_when_its_server_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = json!({"httpGet": {"port": "http", "path": "/ok"}, "periodSeconds": 1, "failureThreshold": 1});
        let probes = json!({"startupProbe": probe, "readinessProbe": probe});
        let (container, pod) = container(listener.local_addr().unwrap().port(), probes);
        let (sender, mut verdicts) = mpsc::channel(4);
        let probes = Probes::of(&container, &pod, Ipv4Addr::LOCALHOST);
        tokio::spawn(probes.run(nobody(), sender, |verdict| verdict));
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
        let probes = Probes::of(&container, &pod, Ipv4Addr::LOCALHOST);
        tokio::spawn(probes.run(nobody(), sender, |verdict| verdict));
        assert_eq!(verdicts.recv().await, Some(Verdict::StartupFailed));
        let took = before.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&took), "{took:?}");
    }
}
