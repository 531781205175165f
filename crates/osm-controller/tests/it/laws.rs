//! Laws of the core and, with sessions, of the whole pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_api::{ManifestSet, World};
use osm_controller::Core;
use osm_resolve::{ResolveOptions, resolve};
use osm_translate::translate;
use osm_xds::{Request, ResourceType, Resources, Session};
use proptest::prelude::*;

use crate::lab::{NAMESPACE, PERMISSIVE, endpoints, pod, service};

/// One file is put, in one of its versions, or removed.
#[derive(Clone, Debug)]
struct Step {
    file: usize,
    version: Option<usize>,
}

/// The files that a random history is made of, each in its versions.
fn files() -> Vec<(&'static str, Vec<String>)> {
    let text = str::to_owned;
    vec![
        ("namespace", vec![text(NAMESPACE), NAMESPACE.replace("monitored-by: osm", "monitored-by: other")]),
        ("config", vec![text(PERMISSIVE), PERMISSIVE.replace("true", "false"), text("a: [")]),
        ("web", vec![service("web", "web"), service("web", "client"), service("web", "web").replace("80,", "81,")]),
        ("db", vec![service("db", "db").replace("[{port", "[{name: tcp-db, port").replace(".20", ".21")]),
        ("web-1", vec![pod("web-1", "web"), pod("web-1", "client")]),
        ("client", vec![pod("client", "client"), pod("client", "web")]),
        ("slice", vec![endpoints("web", "web-1", &["10.0.0.1"]), endpoints("web", "web-1", &["10.0.0.1", "10.0.0.2"])]),
    ]
}

fn history() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..files().len(), prop::option::weighted(0.8, 0..3_usize));
    let step = step.prop_map(|(file, version)| Step { file, version });
    prop::collection::vec(prop::collection::vec(step, 1..5), 1..12)
}

/// A client that accepts everything, and what it holds.
struct Client {
    session: Session,
    held: BTreeMap<ResourceType, BTreeMap<String, String>>,
}

impl Client {
    fn new(resources: Arc<Resources>) -> Client {
        let mut client = Client { session: Session::new(resources), held: BTreeMap::new() };
        for ty in ResourceType::OF_CONTROLLER {
            let responses = client.session.on_request(Request::subscribe(ty, ["*"]));
            client.take(responses);
        }
        client
    }

    fn take(&mut self, mut responses: Vec<osm_xds::Response>) {
        while let Some(response) = responses.pop() {
            let held = self.held.entry(response.ty).or_default();
            held.extend(response.resources.iter().map(|r| (r.name.clone(), r.version.clone())));
            response.removed.iter().for_each(|name| drop(held.remove(name)));
            responses.extend(self.session.on_request(Request::accept(response.ty, response.nonce)));
        }
    }

    fn holds(&self, resources: &Resources) -> bool {
        ResourceType::OF_CONTROLLER.into_iter().all(|ty| {
            let expected: BTreeMap<_, _> =
                resources.of(ty).values().map(|r| (r.name.clone(), r.version.clone())).collect();
            self.held.get(&ty).cloned().unwrap_or_default() == expected
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened before: what is published is what the World comes to when looked at afresh, and after it is
    /// said every client of a class holds exactly that.
    #[test]
    fn what_is_published_and_held_depends_on_the_world_alone(history in history()) {
        let (files, options) = (files(), ResolveOptions::default());
        let (mut set, mut world, mut core) = (ManifestSet::default(), World::default(), Core::new(options.clone()));
        let mut clients = BTreeMap::new();
        for steps in history {
            let mut changes = Vec::new();
            for Step { file, version } in steps {
                let (name, versions) = &files[file];
                changes.extend(match version {
                    Some(version) => set.put(name, &versions[version % versions.len()]).changes,
                    None => set.remove(name).changes,
                });
            }
            for change in changes.clone() {
                world.apply(change);
            }
            core.apply(changes);
            let snapshot = core.publish();
            let (mesh, _) = resolve(&world, &options);
            prop_assert_eq!(&*snapshot.mesh, &mesh);
            prop_assert!(mesh.classes().into_iter().eq(snapshot.classes.keys()));
            for (class, resources) in &*snapshot.classes {
                prop_assert_eq!(&**resources, &translate(&mesh.view(class)));
                let client = clients.entry(class.clone()).or_insert_with(|| Client::new(resources.clone()));
                let responses = client.session.on_resources(resources.clone());
                client.take(responses);
                prop_assert!(client.holds(resources), "{:?} is not {:?}", client.held, resources);
            }
            clients.retain(|class, _| snapshot.classes.contains_key(class));
        }
    }

    /// What did not change keeps its pointer, so that no session is woken.
    #[test]
    fn publishing_again_without_a_change_changes_no_pointer(history in history()) {
        let files = files();
        let (mut set, mut core) = (ManifestSet::default(), Core::new(ResolveOptions::default()));
        for Step { file, version } in history.into_iter().flatten() {
            let (name, versions) = &files[file];
            core.apply(set.put(name, &versions[version.unwrap_or(0) % versions.len()]).changes);
        }
        let before = core.publish();
        core.apply(set.put("unrelated", "apiVersion: v1\nkind: Namespace\nmetadata: {name: unrelated}").changes);
        let after = core.publish();
        for (class, resources) in &*before.classes {
            prop_assert!(Arc::ptr_eq(resources, &after.classes[class]));
        }
    }
}
