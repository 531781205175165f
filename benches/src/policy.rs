//! From a change of a policy until every proxy enforces it.
//!
//! Servers in a mesh in SMI mode, all granted to one client by one TrafficTarget. The grant has two paths, and what
//! changes is one of them: so only the servers' proxies decide, and the client's has nothing to do with it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::figures::Figures;
use crate::file_envoy::FileEnvoys;
use crate::mesh::{Mesh, program};
use crate::watcher::Watcher;

/// What the project promises.
const GOAL: Duration = Duration::from_millis(300);

/// OSM 1.2 on a cluster of one node of two processors, a TrafficTarget made or deleted in SMI mode; see README.md.
const OSM: &str = "OSM itself, elsewhere (100 proxies, Kubernetes)   2330     2400     2400";

pub(crate) fn run(count: usize, pods: usize) -> Result<String> {
    ensure!(count > 0 && pods > 0, "--count and --pods must be 1 or more");
    let mesh = Mesh::up(&manifests(pods))?;
    let granted = mesh.write("granted.yaml", &paths("/gated"))?;
    let revoked = mesh.write("revoked.yaml", &paths("/nothing"))?;
    let mut watch = mesh.osm("exec")?;
    watch.args(["bench/client", "--"]).arg(program("osm-demo")?).args(["watch", "--pause-ms", &pause_ms(pods)]);
    watch.args((0..pods).map(|index| format!("http://server-{index}.bench/gated")));
    let mut watcher = Watcher::start(watch, pods)?;
    watcher.wait_until_all(403).context("before the first grant")?;
    let mut file_envoys = FileEnvoys::start(pods)?;

    let (mut grants, mut revocations, mut commands, mut baseline) = (vec![], vec![], vec![], vec![]);
    for _ in 0..count {
        for (file, status, measured) in [(&granted, 200, &mut grants), (&revoked, 403, &mut revocations)] {
            let begun = Instant::now();
            mesh.apply(file)?;
            commands.push(begun.elapsed());
            measured.push(watcher.wait_until_all(status)?.saturating_duration_since(begun));
            let (begun, seen) = file_envoys.change(status)?;
            baseline.push(seen.saturating_duration_since(begun));
        }
    }
    let both = Figures::of([grants.as_slice(), &revocations].concat());
    let baseline = Figures::of(baseline);
    let ratio = both.median().as_secs_f64() / baseline.median().as_secs_f64();
    let verdict = if both.p99() < GOAL { "met" } else { "missed" };
    Ok([
        format!("{} changes of a policy, in force at all of {pods} proxies; milliseconds", 2 * count),
        Figures::head(""),
        both.row("from `osm local apply` to the last proxy"),
        Figures::of(grants).row("  grants"),
        Figures::of(revocations).row("  revocations"),
        Figures::of(commands).row("  `osm local apply` alone"),
        baseline.row("baseline: as many Envoys that read a file"),
        OSM.to_owned(),
        format!("ratio to the baseline, of medians: {ratio:.1}; goal: 99 of 100 under {GOAL:?}: {verdict}"),
    ]
    .join("\n"))
}

/// A hundred looks a second at each pod, and no more than a thousand at all: they take processors from what they look at.
pub(crate) fn pause_ms(pods: usize) -> String {
    pods.max(10).to_string()
}

/// Which paths the grant is for. `/open` never changes, so the servers can always be reached.
fn paths(gated: &str) -> String {
    format!(
        "---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: paths, namespace: bench}}
spec: {{matches: [{{name: open, pathRegex: /open, methods: [GET]}}, {{name: gated, pathRegex: {gated}, methods: [GET]}}]}}
"
    )
}

fn manifests(pods: usize) -> String {
    let servers: String = (0..pods)
        .map(|index| {
            format!(
                "---
apiVersion: v1
kind: Service
metadata: {{name: server-{index}, namespace: bench}}
spec: {{selector: {{app: server-{index}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: server-{index}, namespace: bench, labels: {{app: server-{index}}}}}
spec:
  serviceAccountName: server
  containers: [{{name: main, image: osm-demo, args: [serve]}}]
"
            )
        })
        .collect();
    format!(
        "---
apiVersion: v1
kind: Namespace
metadata:
  name: bench
  labels: {{openservicemesh.io/monitored-by: osm}}
  annotations: {{openservicemesh.io/sidecar-injection: enabled}}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {{name: osm-mesh-config, namespace: osm-system}}
spec: {{traffic: {{enablePermissiveTrafficPolicyMode: false}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: server, namespace: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: bench}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: client-to-server, namespace: bench}}
spec:
  destination: {{kind: ServiceAccount, name: server, namespace: bench}}
  sources: [{{kind: ServiceAccount, name: client, namespace: bench}}]
  rules: [{{kind: HTTPRouteGroup, name: paths, matches: [open, gated]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: bench, labels: {{app: client}}}}
spec:
  serviceAccountName: client
  containers: [{{name: main, image: osm-demo, command: [sleep, infinity]}}]
{servers}{}",
        paths("/nothing")
    )
}
