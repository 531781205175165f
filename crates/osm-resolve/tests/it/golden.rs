//! Manifests in; the Mesh and the Problems, the view of a pod's proxies, or explanations out. `# keep:` says which
//! parts of the output a case pins; the settings are pinned by few, so that a changed default does not touch every
//! file.

use std::collections::BTreeMap;

use osm_api::{Change, ManifestSet, World};
use osm_model::{PodName, ServiceName};
use osm_resolve::{Caller, Destination, Question, Request, ResolveOptions, explain, resolve};
use osm_testkit::Case;
use serde_json::{Map, Value, json};

#[test]
fn manifests_come_to_the_mesh_and_problems_that_are_written_down() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "resolve", mesh_and_problems);
}

/// `# pod:` names the pod.
#[test]
fn manifests_come_to_the_views_that_are_written_down() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "view", |case| {
        let (mesh, _) = resolve(&world(case), &ResolveOptions::default());
        let class = &mesh.proxies[&pod(case.option("pod").expect("a case names a pod"))];
        let view = serde_json::to_value(mesh.view(class)).expect("a view is JSON");
        kept(case, "outbound, http_ports, closed, admitted", |part| view[part].clone())
    });
}

/// `# ask:` has questions like `shop/client shop/web:80 GET /books client-app=x`, with `|` between them; the
/// destination is a service, or a pod as in `pod:shop/web-1:80`, and the port may be left out.
#[test]
fn questions_come_to_the_explanations_that_are_written_down() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "explain", |case| {
        let world = world(case);
        let ask = |question: &str| {
            let explanation = explain(&world, &ResolveOptions::default(), &read_question(question), &[]);
            let mut answers: Vec<Value> = Vec::new();
            for answer in explanation.answers {
                let mut value = serde_json::to_value(&answer).expect("an answer is JSON");
                let problems = answer.problems.into_iter().map(|problem| problem.with_origin(None).to_string());
                value["problems"] = problems.collect();
                answers.push(value);
            }
            (question.to_owned(), json!({"verdict": explanation.verdict, "answers": answers}))
        };
        let questions = case.option("ask").expect("a case asks").split('|').map(str::trim);
        serde_saphyr::to_string(&questions.map(ask).collect::<BTreeMap<_, _>>()).expect("JSON is YAML")
    });
}

fn mesh_and_problems(case: &Case) -> String {
    let (mesh, problems) = resolve(&world(case), &ResolveOptions::default());
    let mesh = serde_json::to_value(&mesh).expect("a mesh is JSON");
    let mut problems: Vec<Value> = problems
        .into_iter()
        .map(|problem| {
            assert!(problem.origin.is_some(), "{problem} has no origin");
            json!(problem.with_origin(None).to_string())
        })
        .collect();
    problems.sort_by_key(Value::to_string);
    kept(case, "services, proxies, problems", |part| match part {
        "problems" => json!(problems),
        part => mesh[part].clone(),
    })
}

fn world(case: &Case) -> World {
    let update = ManifestSet::default().put(&format!("{}.yaml", case.name), &case.input);
    let mut world = World::default();
    for change in update.changes {
        assert!(matches!(change, Change::Apply(..)), "a first text takes nothing away");
        world.apply(change);
    }
    assert_eq!(update.problems, [], "a case is about meaning, so its text is right");
    world
}

fn kept(case: &Case, parts: &str, value: impl Fn(&str) -> Value) -> String {
    let parts = case.option("keep").unwrap_or(parts).split(", ");
    let kept: Map<String, Value> = parts.map(|part| (part.to_owned(), value(part))).collect();
    serde_saphyr::to_string(&kept).expect("JSON is YAML")
}

fn pod(written: &str) -> PodName {
    let (namespace, name) = written.split_once('/').expect("a pod is namespace/name");
    PodName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn read_question(written: &str) -> Question {
    let mut words = written.split(' ');
    let from = Caller::Pod(pod(words.next().expect("who asks")));
    let to = words.next().expect("what is reached");
    let (is_pod, to) = to.strip_prefix("pod:").map_or((false, to), |to| (true, to));
    let (to, port) = to.split_once(':').map_or((to, None), |(to, port)| (to, Some(port)));
    let to = pod(to);
    let method = words.next().map(str::to_owned);
    let path = words.next().map(str::to_owned);
    let headers =
        words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    Question {
        from,
        to: match is_pod {
            true => Destination::Pod(to),
            false => Destination::Service(ServiceName { namespace: to.namespace, name: to.name }),
        },
        port: port.map(|port| port.parse().expect("a port is a number")),
        request: Request { method, path, headers: headers.collect() },
    }
}
