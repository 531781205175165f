use std::collections::BTreeMap;

use osm_api::{Reason, World};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What a source said, taken in as the controller does.
#[derive(Default)]
struct Taken {
    said: Said,
    world: World,
    problems: BTreeMap<String, Vec<String>>,
    in_sync: usize,
}

impl Taken {
    fn take(&mut self, kind: Kind, heard: Heard) {
        self.said.take(kind, heard);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        for event in self.said.take_events() {
            match event {
                Event::Changes(changes) => changes.into_iter().for_each(|change| drop(self.world.apply(change))),
                Event::Problems { file, problems } => {
                    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
                    if problems.is_empty() {
                        self.problems.remove(&file);
                    } else {
                        self.problems.insert(file, problems);
                    }
                }
                Event::InSync => self.in_sync += 1,
            }
        }
    }

    fn list(&mut self, kind: Kind, values: Vec<Value>) {
        self.take(kind, Heard::ListBegins);
        for value in values {
            self.take(kind, Heard::Listed(value));
        }
        self.take(kind, Heard::ListEnds);
    }

    fn keys(&self) -> Vec<String> {
        self.world.keys().iter().map(ObjectKey::to_string).collect()
    }
}

fn service(name: &str, port: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ports": [{ "port": port }] } })
}

fn grant(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": { "name": name, "namespace": "shop" }, "spec": spec })
}

fn good_grant(name: &str, account: &str) -> Value {
    let subject = |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": "shop" });
    grant(name, json!({ "destination": subject("web"), "sources": [subject(account)], "rules": [] }))
}

fn key_of(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, "shop", name)
}

#[test]
fn a_list_counts_when_it_is_complete_and_then_all_at_once() {
    let mut taken = Taken::default();
    taken.list(Kind::Service, vec![service("a", json!(80)), service("b", json!(80))]);
    taken.take(Kind::Service, Heard::ListBegins);
    taken.take(Kind::Service, Heard::Listed(service("c", json!(80))));
    assert_eq!(taken.keys(), ["Service shop/a", "Service shop/b"]);
    taken.said.take(Kind::Service, Heard::ListEnds);
    let events = taken.said.take_events();
    assert!(matches!(events.as_slice(), [Event::Changes(changes)] if changes.len() == 3), "{events:?}");
}

#[test]
fn a_list_that_fails_and_a_watch_that_is_lost_withdraw_nothing() {
    let mut taken = Taken::default();
    taken.list(Kind::Service, vec![service("a", json!(80))]);
    let problem = Problem::new(Kind::Service, Reason::Missing, "cannot be watched");
    taken.take(Kind::Service, Heard::ListBegins);
    taken.take(Kind::Service, Heard::Failed(Failure { problem: Some(problem), is_not_served: false }));
    assert_eq!(taken.keys(), ["Service shop/a"]);
    assert_eq!(taken.problems["cluster: Service"], ["Service: cannot be watched"]);
    taken.list(Kind::Service, vec![service("a", json!(80))]);
    assert!(taken.problems.is_empty());
}

#[test]
fn in_sync_comes_once_when_the_last_kind_has_been_listed_or_is_known_not_to_be_served() {
    let mut taken = Taken::default();
    let (last, others) = KINDS.split_last().unwrap();
    for kind in others {
        assert_eq!(taken.in_sync, 0);
        match kind {
            Kind::TcpRoute => taken.take(*kind, Heard::Failed(Failure { problem: None, is_not_served: true })),
            _ => taken.list(*kind, Vec::new()),
        }
    }
    taken.take(*last, Heard::Failed(Failure { problem: None, is_not_served: false }));
    assert_eq!(taken.in_sync, 0);
    taken.list(*last, Vec::new());
    taken.list(*last, Vec::new());
    assert_eq!(taken.in_sync, 1);
}

#[test]
fn what_cannot_be_understood_keeps_what_it_said_before_except_that_a_grant_admits_nobody() {
    let mut taken = Taken::default();
    taken.list(Kind::Service, vec![service("a", json!(80))]);
    taken.list(Kind::TrafficTarget, vec![good_grant("g", "client")]);
    let before = taken.world.get(&key_of(Kind::Service, "a"));
    taken.take(Kind::Service, Heard::Applied(service("a", json!("eighty"))));
    assert_eq!(taken.world.get(&key_of(Kind::Service, "a")), before);
    assert!(taken.problems["cluster: Service shop/a"][0].contains("Service shop/a: spec.ports[0].port"));
    taken.take(Kind::TrafficTarget, Heard::Applied(grant("g", json!({ "destination": 1 }))));
    assert_eq!(taken.keys(), ["Service shop/a"]);
    taken.take(Kind::TrafficTarget, Heard::Applied(good_grant("g", "client")));
    taken.take(Kind::Service, Heard::Deleted(key_of(Kind::Service, "a")));
    assert_eq!(taken.keys(), ["TrafficTarget shop/g"]);
    assert!(taken.problems.is_empty(), "{:?}", taken.problems);
}

#[test]
fn settings_that_never_could_be_understood_let_nobody_in() {
    let mut taken = Taken::default();
    let settings = json!({ "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
                           "metadata": { "name": "osm-mesh-config", "namespace": "osm-system" }, "spec": 7 });
    taken.list(Kind::MeshConfig, vec![settings]);
    let key = ObjectKey::new(Kind::MeshConfig, "osm-system", "osm-mesh-config");
    assert_eq!(taken.world.get(&key), Some(closed_settings(&key)));
}

/// What happens at the API server, or between it and us.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Delete(usize),
    /// The watch is lost: what happens now is heard by the next list alone.
    Lose,
    /// A list begins, holds the first so many objects, and fails.
    Begin(usize),
    List,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..NAMES.len(), 0..3_usize).prop_map(|(name, version)| Step::Put(name, version)),
        2 => (0..NAMES.len()).prop_map(Step::Delete),
        1 => Just(Step::Lose),
        1 => (0..NAMES.len()).prop_map(Step::Begin),
        2 => Just(Step::List),
    ];
    prop::collection::vec(step, 0..40)
}

fn version(kind: Kind, name: &str, version: usize) -> Value {
    match (kind, version) {
        (Kind::Service, 0) => service(name, json!(80)),
        (Kind::Service, _) => service(name, json!(81)),
        (_, 0) => good_grant(name, "client"),
        (_, 1) => good_grant(name, "other"),
        (_, _) => grant(name, json!({ "sources": [{ "narrower": true }] })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever was heard, lost and listed again: in the end the World is what the API server holds.
    #[test]
    fn any_history_of_lists_and_watches_ends_with_what_the_server_holds(
        history in steps(), is_grant: bool, batches in prop::collection::vec(any::<bool>(), 40),
    ) {
        let kind = if is_grant { Kind::TrafficTarget } else { Kind::Service };
        let (mut taken, mut server) = (Taken::default(), BTreeMap::new());
        let mut is_watching = false;
        let values = |server: &BTreeMap<usize, usize>| -> Vec<Value> {
            server.iter().map(|(name, of)| version(kind, NAMES[*name], *of)).collect()
        };
        for (step, is_passed_on) in history.into_iter().zip(batches) {
            match step {
                Step::Put(name, of) => {
                    server.insert(name, of);
                    if is_watching {
                        taken.said.take(kind, Heard::Applied(version(kind, NAMES[name], of)));
                    }
                }
                Step::Delete(name) => {
                    if server.remove(&name).is_some() && is_watching {
                        taken.said.take(kind, Heard::Deleted(key_of(kind, NAMES[name])));
                    }
                }
                Step::Lose => {
                    is_watching = false;
                    taken.said.take(kind, Heard::Failed(Failure { problem: None, is_not_served: false }));
                }
                Step::Begin(count) => {
                    is_watching = false;
                    taken.said.take(kind, Heard::ListBegins);
                    values(&server).into_iter().take(count).for_each(|v| taken.said.take(kind, Heard::Listed(v)));
                    taken.said.take(kind, Heard::Failed(Failure { problem: None, is_not_served: false }));
                }
                Step::List => {
                    taken.list(kind, values(&server));
                    is_watching = true;
                }
            }
            if is_passed_on {
                taken.pass_on();
            }
        }
        if !is_watching {
            taken.list(kind, values(&server));
        }
        taken.pass_on();
        let mut expected = World::default();
        for value in values(&server) {
            if let Some(object) = read_object(value).object {
                expected.apply(Change::Apply(Box::new(object), None));
            }
        }
        prop_assert_eq!(&taken.world, &expected);
        let broken = if is_grant { server.values().filter(|of| **of == 2).count() } else { 0 };
        prop_assert_eq!(taken.problems.len(), broken);
    }
}
