//! From the making of a pod to its application's first answered request, by the shape of the pod.
//!
//! The shapes take turns, so that each has the same machine: in each round one pod of each, one after the other. The
//! application asks a server on a new connection every 20 ms until it is answered, as an application that retries does.

mod place;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use osm_runtime::clock;
use osm_testkit::Progress;
use serde_json::Value;

use crate::figures::Figures;
use place::Place;

/// OSM 1.2 on a cluster of one node of two processors, measured elsewhere: only for applications that retry.
const OSM: &str =
    "OSM itself, elsewhere: tax 2.0 s; the peers' shape, elsewhere: tax 3.2 s (to the start of the application)";

/// A way to start a pod, and the annotations that choose it.
struct Shape {
    name: &'static str,
    namespace: &'static str,
    annotations: &'static str,
}

const UNMESHED: &str = "unmeshed";

const SHAPES: [Shape; 6] = [
    Shape { name: UNMESHED, namespace: "bench-plain", annotations: "" },
    Shape { name: "init", namespace: "bench", annotations: "openservicemesh.io/startup: init" },
    Shape { name: "merged", namespace: "bench", annotations: "openservicemesh.io/startup: merged" },
    Shape { name: "native", namespace: "bench", annotations: "openservicemesh.io/startup: native" },
    Shape {
        name: "as OSM: init, no hold",
        namespace: "bench",
        annotations: "openservicemesh.io/startup: init, openservicemesh.io/hold: none",
    },
    Shape {
        name: "as the peers: native, startup probe of 1 s",
        namespace: "bench",
        annotations: "openservicemesh.io/startup: native, openservicemesh.io/hold: container",
    },
];

/// What one pod took, in milliseconds from just before it was made.
struct Start {
    /// Until the first instruction of the application.
    to_application: u64,
    /// Until its first answered request.
    to_answer: u64,
    /// How many connections were refused or requests failed before.
    failed: u64,
}

pub(crate) fn run(count: usize, is_cluster: bool) -> Result<String> {
    ensure!(count > 0, "--count must be 1 or more");
    let place = Place::up(is_cluster)?;
    let mut starts: BTreeMap<&str, Vec<Start>> = BTreeMap::new();
    let mut progress = Progress::new("rounds", u32::try_from(count)?);
    for round in 0..count {
        progress.done(u32::try_from(round)?);
        for shape in &SHAPES {
            let start = measure(&place, shape, round).with_context(|| format!("a pod of shape {}", shape.name))?;
            starts.entry(shape.name).or_default().push(start);
        }
        place.take_away(&SHAPES.map(|shape| pod(&shape, round)).concat())?;
    }
    Ok(table(count, place.name(), &starts))
}

fn measure(place: &Place, shape: &Shape, round: usize) -> Result<Start> {
    let name = pod_name(shape, round);
    let file = place.write("pod.yaml", &pod(shape, round))?;
    let begun = unix_ms();
    place.make(&file)?;
    let said = place.wait_for_line(shape.namespace, &name)?;
    let field = |field: &str| said[field].as_u64().with_context(|| format!("{field} is missing in {said}"));
    Ok(Start {
        to_application: field("started_unix_ms")?.saturating_sub(begun),
        to_answer: field("answered_unix_ms")?.saturating_sub(begun),
        failed: field("failed")?,
    })
}

fn unix_ms() -> u64 {
    u64::try_from(clock::now().as_millisecond()).unwrap_or_default()
}

fn table(count: usize, place: &str, starts: &BTreeMap<&str, Vec<Start>>) -> String {
    let figures = |shape: &str, of: fn(&Start) -> u64| {
        Figures::of(starts[shape].iter().map(|start| Duration::from_millis(of(start))).collect())
    };
    let unmeshed = figures(UNMESHED, |start| start.to_answer).median();
    let mut lines = vec![
        format!("{count} pods of each shape, in turns, {place}; milliseconds from the making of the pod"),
        format!(
            "{:44} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>7}",
            "", "app at", "answer", "p99", "longest", "tax", "ratio", "failed"
        ),
    ];
    for shape in &SHAPES {
        let answer = figures(shape.name, |start| start.to_answer);
        let ms = |time: Duration| time.as_millis();
        lines.push(format!(
            "{:44} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6.2} {:>7}",
            shape.name,
            ms(figures(shape.name, |start| start.to_application).median()),
            ms(answer.median()),
            ms(answer.p99()),
            ms(answer.longest()),
            ms(answer.median().saturating_sub(unmeshed)),
            answer.median().as_secs_f64() / unmeshed.as_secs_f64(),
            starts[shape.name].iter().map(|start| start.failed).sum::<u64>(),
        ));
    }
    lines.push(
        "app at, answer, tax: medians; tax: beyond the unmeshed pod; failed: tries of all pods before an answer"
            .to_owned(),
    );
    lines.push(OSM.to_owned());
    lines.join("\n")
}

fn pod_name(shape: &Shape, round: usize) -> String {
    let letters: String = shape.name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}-{round}", letters.to_ascii_lowercase())
}

fn pod(shape: &Shape, round: usize) -> String {
    let (name, namespace) = (pod_name(shape, round), shape.namespace);
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  annotations: {{{}}}
spec:
  serviceAccountName: client
  containers:
    - {{name: main, image: osm-demo, imagePullPolicy: Never, args: [first, 'http://server.{namespace}/']}}
",
        shape.annotations
    )
}

/// What is there before the first pod: a server in the mesh, and one beside it.
fn surroundings() -> String {
    let meshed =
        "labels: {openservicemesh.io/monitored-by: osm}, annotations: {openservicemesh.io/sidecar-injection: enabled}";
    let mut manifests = String::new();
    for (namespace, more) in [("bench", meshed), ("bench-plain", "labels: {}")] {
        manifests += &format!(
            "---
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, {more}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: server, namespace: {namespace}}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: {namespace}}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: server, namespace: {namespace}, labels: {{app: server}}}}
spec:
  serviceAccountName: server
  containers:
    - {{name: main, image: osm-demo, imagePullPolicy: Never, args: [serve]}}
"
        );
    }
    manifests
}

/// What the application wrote, once it has.
fn line_of(logs: &str) -> Result<Value> {
    let line = logs.lines().find(|line| line.starts_with('{')).context("the application has not been answered yet")?;
    serde_json::from_str(line).with_context(|| format!("reading {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_shape_and_ratios_to_the_unmeshed_pod() {
        let start = |to_answer| vec![Start { to_application: to_answer - 10, to_answer, failed: 1 }];
        let starts = SHAPES.iter().map(|shape| (shape.name, start(if shape.name == UNMESHED { 100 } else { 250 })));
        let text = table(1, "here", &starts.collect());
        let line = text.lines().find(|line| line.starts_with("native")).unwrap();
        let found: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert_eq!(found, ["240", "250", "250", "250", "150", "2.50", "1"]);
    }
}
