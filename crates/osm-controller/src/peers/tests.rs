use super::*;
use crate::control::Core;
use crate::proxies::Proxy;
use osm_api::{Change, ManifestSet};
use osm_model::Identity;
use osm_resolve::ResolveOptions;

const MESH: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop},
 spec: {clusterIP: 10.96.0.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: shop, uid: c, annotations: {openservicemesh.io/injected: 'init: x'}},
 spec: {containers: [{name: a}]}, status: {podIPs: [{ip: 10.0.0.9}], conditions: [{type: ContainersReady, status: 'True'}]}}
";

/// What a test plays with: a mesh in which `client` may reach the pods of `web`.
struct Bench {
    core: Core,
    proxies: Proxies,
    answers: Answers,
    notices: Notices,
    peers: Peers,
    files: ManifestSet,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let (proxies, answers, notices) = (Proxies::default(), Answers::default(), Notices::default());
        let peers = Peers::new(proxies.clone(), answers.clone(), notices.clone(), PodConditions::default());
        let core = Core::new(ResolveOptions::default());
        let now = clock::monotonic();
        let mut bench = Bench { core, proxies, answers, notices, peers, files: ManifestSet::default(), now };
        bench.put("mesh.yaml", MESH);
        bench
    }

    fn put(&mut self, file: &str, text: &str) {
        let update = self.files.put(file, text);
        assert_eq!(update.problems, vec![]);
        self.core.apply(update.changes);
        self.publish();
    }

    fn publish(&mut self) {
        self.proxies.publish(self.core.publish());
        self.peers.take_snapshot(self.now);
        self.peers.judge(self.now);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.peers.judge(self.now);
    }

    /// A pod of `web` whose containers are ready, and its slice.
    fn web(&mut self, more: &str, is_listed: bool) {
        self.put(
            "web.yaml",
            &format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: web-1, namespace: shop, uid: w, labels: {{app: web}}, {more}
                 annotations: {{openservicemesh.io/injected: 'init: x'}}}},
                 spec: {{containers: [{{name: a}}, {{name: envoy}}], readinessGates: [{{conditionType: openservicemesh.io/PeersReady}}]}},
                 status: {{podIPs: [{{ip: 10.0.0.1}}], conditions: [{{type: ContainersReady, status: 'True'}}]}}}}"
            ),
        );
        let endpoints = if is_listed {
            "[{addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: web-1, namespace: shop}}]"
        } else {
            "[]"
        };
        self.put(
            "slice.yaml",
            &format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: web-x, namespace: shop,
                 labels: {{kubernetes.io/service-name: web}}}}, ports: [{{name: http, port: 8080}}], endpoints: {endpoints}}}"
            ),
        );
    }

    fn proxy(name: &str) -> Proxy {
        let namespace = || "shop".to_owned();
        let pod = PodName { namespace: namespace(), name: name.to_owned() };
        Proxy { pod, identity: Identity { namespace: namespace(), service_account: "default".to_owned() } }
    }

    fn connects(&mut self, session: u64, name: &str) {
        self.answers.opened(session, Bench::proxy(name));
    }

    /// The proxy answers for what it is told now.
    fn answers(&mut self, session: u64, name: &str) {
        let told = self.proxies.follow(&Bench::proxy(name)).borrow().clone().expect("the pod is known");
        self.answers.answered(session, told);
        self.peers.judge(self.now);
    }

    /// `True Acknowledged`, or nothing if nothing was said yet.
    fn gate(&self) -> String {
        self.peers.conditions.said("w", PEERS_READY).unwrap_or_default()
    }

    fn notice(&self, name: &str) -> Notice {
        *self.notices.follow(&Bench::proxy(name).pod).borrow()
    }
}

#[tokio::test]
async fn a_pod_is_ready_when_every_connected_proxy_that_reaches_it_has_answered() {
    let mut bench = Bench::new();
    bench.connects(1, "client");
    bench.answers(1, "client");
    bench.web("", true);
    bench.connects(2, "web-1");
    bench.answers(2, "web-1");
    assert_eq!(bench.gate(), "");
    bench.after(SAID_AFTER);
    assert_eq!(
        bench.gate(),
        "False WaitingForPeers: 1 of 1 proxies that reach it have not acknowledged it: shop/client"
    );
    bench.answers(1, "client");
    assert_eq!(bench.gate(), "True Acknowledged: every proxy that reaches it has acknowledged it (1)");
}

#[tokio::test]
async fn a_limit_that_was_let_pass_is_named_and_not_waited_for_again() {
    let mut bench = Bench::new();
    bench.connects(1, "client");
    bench.web("", true);
    bench.after(LIMIT);
    assert!(bench.gate().starts_with("True LimitReached: 1 of 1 proxies"), "{}", bench.gate());
    bench.web("deletionTimestamp: '2026-01-01T00:00:00Z',", true);
    assert!(bench.notice("web-1").is_withdrawn, "the one that let the limit pass is not waited for");
}

#[tokio::test]
async fn a_pod_that_no_slice_lists_yet_is_not_ready() {
    let mut bench = Bench::new();
    bench.connects(1, "client");
    bench.web("", false);
    bench.answers(1, "client");
    bench.after(SAID_AFTER);
    assert_eq!(bench.gate(), "False WaitingForPeers: no EndpointSlice of Service shop/web has this pod yet");
    bench.web("", true);
    bench.answers(1, "client");
    assert!(bench.gate().starts_with("True Acknowledged"), "{}", bench.gate());
}

#[tokio::test]
async fn proxies_of_another_controller_get_a_moment() {
    let mut bench = Bench::new();
    bench.web("", true);
    assert_eq!(bench.gate(), "");
    bench.after(ELSEWHERE);
    assert!(
        bench.gate().starts_with("True Acknowledged: every proxy connected to this controller"),
        "{}",
        bench.gate()
    );
}

#[tokio::test]
async fn a_pod_that_is_to_end_is_withdrawn_when_nobody_has_it_any_more() {
    let mut bench = Bench::new();
    bench.connects(1, "client");
    bench.web("", true);
    bench.answers(1, "client");
    assert!(bench.gate().starts_with("True"));
    bench.web("deletionTimestamp: '2026-01-01T00:00:00Z',", true);
    assert_eq!(bench.notice("web-1"), Notice::default());
    bench.answers(1, "client");
    assert_eq!(bench.notice("web-1"), Notice { is_withdrawn: true, is_application_over: false });
    assert_eq!(bench.notice("client"), Notice::default());
}

#[tokio::test]
async fn a_session_that_ends_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.connects(1, "client");
    bench.web("", true);
    bench.answers.closed(1);
    bench.after(Duration::ZERO);
    assert!(bench.gate().starts_with("True Acknowledged"), "{}", bench.gate());
}

fn is_over(policy: &str, ended: &[(&str, i32)], more: &str) -> bool {
    let statuses: Vec<String> = ended
        .iter()
        .map(|(name, code)| format!("{{name: {name}, state: {{terminated: {{exitCode: {code}}}}}, image: x, imageID: x, ready: false, restartCount: 0}}"))
        .collect();
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: n {more}}}, spec: {{restartPolicy: {policy},
          containers: [{{name: envoy}}, {{name: a}}, {{name: b}}]}}, status: {{containerStatuses: [{}]}}}}",
        statuses.join(", ")
    );
    let update = ManifestSet::default().put("p.yaml", &text);
    let Some(Change::Apply(object, _)) = update.changes.into_iter().next() else { panic!("{:?}", update.problems) };
    let osm_api::Object::Pod(pod) = *object else { panic!("a pod") };
    is_application_over(&pod)
}

#[test]
fn an_application_is_over_when_none_of_its_containers_comes_back() {
    assert!(is_over("Never", &[("a", 0), ("b", 7)], ""));
    assert!(!is_over("Never", &[("a", 0)], ""));
    assert!(!is_over("OnFailure", &[("a", 0), ("b", 7)], ""));
    assert!(is_over("OnFailure", &[("a", 0), ("b", 0)], ""));
    assert!(!is_over("Always", &[("a", 0), ("b", 0)], ""));
    assert!(is_over("Always", &[("a", 0), ("b", 0)], ", deletionTimestamp: '2026-01-01T00:00:00Z'"));
}
