//! Deployments are replaced, pod by pod, while their clients go on asking.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use osm_testkit::Progress;

use super::manifests::{mesh_namespace, service, service_account};
use crate::Choice;
use crate::lab::{Lab, LoadCounts, Log, wait_for};

/// Roll-outs of a run that is not asked for more; each takes a few seconds.
const SAMPLE: u32 = 6;

const REPLICAS: usize = 2;
/// Of all clients together; while one is replaced there is one more.
const REQUESTS_PER_SECOND: usize = 500;

/// Servers that finish what they have begun, as well-behaved ones do.
const SERVE: &str = "args: [serve]";
/// Servers that end at once, with whatever is under way.
const DROP_EVERYTHING: &str = "args: [serve, --drop-everything]";

pub(super) fn rolling_updates_under_load(choice: &Choice) -> Result<String> {
    roll(choice, SERVE)
}

pub(super) fn rolling_updates_of_programs_that_drop_everything(choice: &Choice) -> Result<String> {
    roll(choice, DROP_EVERYTHING)
}

fn roll(choice: &Choice, server: &str) -> Result<String> {
    let server = |revision| with_container("server", revision, server);
    let first = [
        mesh_namespace("shop"),
        service_account("shop", "server"),
        service_account("shop", "client"),
        service("shop", "server", "{name: http, port: 80, targetPort: 8080}"),
        server(0),
    ];
    // Clients that were there before the first server would be answered that there is none.
    let lab = Lab::up(choice, &first.concat())?;
    let url = lab.url("shop/server")?;
    lab.apply(&client(0, &url))?;
    wait_for("the clients are ready", || {
        let pods = lab.pods_of("shop/client")?;
        ensure!(pods.len() == REPLICAS && pods.iter().all(|pod| pod.ready), "{pods:?}");
        Ok(())
    })?;
    let mut clients = Clients::default();
    clients.look(&lab)?;
    let mut took = Vec::new();
    let rounds = rounds(choice);
    let mut progress = Progress::new("roll-outs", rounds);
    for round in 1..=rounds {
        progress.done(round - 1);
        let (full_name, deployment) =
            if round % 2 == 1 { ("shop/server", server(round)) } else { ("shop/client", client(round, &url)) };
        let before = names(&lab, full_name)?;
        let start = Instant::now();
        lab.apply(&deployment)?;
        wait_for(&format!("roll-out {round}, of {full_name}, is finished"), || {
            clients.look(&lab)?;
            let pods = lab.pods_of(full_name)?;
            let is_new = |name: &str| !before.contains(name);
            ensure!(pods.len() == REPLICAS && pods.iter().all(|pod| pod.ready && is_new(&pod.full_name())), "{pods:?}");
            Ok(())
        })?;
        took.push(start.elapsed());
    }
    lab.delete(&client(0, &url))?;
    wait_for("the last clients are gone", || {
        let left = names(&lab, "shop/client")?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })?;
    report(&clients.counts()?, &took)
}

/// All that are asked for, in a run for this scenario alone; a sample beside others.
fn rounds(choice: &Choice) -> u32 {
    if choice.is_alone { choice.count } else { choice.count.min(SAMPLE) }
}

fn report(counts: &[LoadCounts], took: &[Duration]) -> Result<String> {
    let sum = |of: fn(&LoadCounts) -> u64| counts.iter().map(of).sum::<u64>();
    let (tried, ok) = (sum(|c| c.tried), sum(|c| c.ok));
    let failed = tried - ok;
    let kinds = format!(
        "{} with another status, {} refused, {} reset, {} timed out, {} otherwise",
        sum(|c| c.other_status),
        sum(|c| c.refused),
        sum(|c| c.reset),
        sum(|c| c.timed_out),
        sum(|c| c.failed)
    );
    let slowest = counts.iter().map(|c| c.slowest_ms).max().unwrap_or_default();
    let seconds: f64 = took.iter().map(Duration::as_secs_f64).sum();
    let longest = took.iter().max().map_or(0.0, Duration::as_secs_f64);
    let figures = format!(
        "{} roll-outs, {tried} requests of {} clients: {failed} failed ({kinds}), slowest {slowest} ms; a roll-out took {longest:.1} s at most",
        took.len(),
        counts.len()
    );
    ensure!(tried as f64 > seconds * REQUESTS_PER_SECOND as f64 / 2.0, "too little load to prove anything: {figures}");
    ensure!(failed == 0, "{figures}");
    Ok(figures)
}

/// The logs of the clients that were seen. Each prints its counts when it is told to end.
#[derive(Default)]
struct Clients(BTreeMap<String, Log>);

impl Clients {
    /// Looks for new ones.
    fn look(&mut self, lab: &Lab) -> Result<()> {
        // One that does not run yet says nothing.
        for pod in lab.pods_of("shop/client")?.iter().filter(|pod| pod.ready) {
            if let Entry::Vacant(new) = self.0.entry(pod.full_name()) {
                let log = lab.log_to_its_end(new.key(), "main")?;
                new.insert(log);
            }
        }
        Ok(())
    }

    /// What each has counted, now that all are gone.
    fn counts(self) -> Result<Vec<LoadCounts>> {
        let count =
            |(pod, log): (String, Log)| LoadCounts::in_output(&log.finish()?).with_context(|| format!("of {pod}"));
        self.0.into_iter().map(count).collect()
    }
}

fn names(lab: &Lab, deployment: &str) -> Result<BTreeSet<String>> {
    Ok(lab.pods_of(deployment)?.iter().map(|pod| pod.full_name()).collect())
}

/// They ask by address: to resolve a name for each request would be a load of its own.
fn client(revision: u32, url: &str) -> String {
    let rate = REQUESTS_PER_SECOND / REPLICAS;
    let load = format!("args: [load, '{url}', --rate, '{rate}', --seconds, '86400']");
    with_container("client", revision, &load)
}

fn with_container(name: &str, revision: u32, container: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {REPLICAS}
  strategy: {{type: RollingUpdate, rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{revision: '{revision}'}}
    spec:
      serviceAccountName: {name}
      containers: [{{name: main, image: osm-demo, {container}}}]
"
    )
}
