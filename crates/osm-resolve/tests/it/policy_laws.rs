//! Laws of policies, over random Worlds full of right and wrong policies.

use osm_api::{Object, TrafficTarget};
use osm_model::{Access, Admitted, Identity, Mesh, ProxyView, Service};
use osm_resolve::{Caller, Destination, Question, Request, ResolveOptions, Verdict, explain};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::laws::{mesh, mesh_config, namespace, objects, read, world};

const MONITORED_BY: &str = "openservicemesh.io/monitored-by";

fn pick<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn name() -> impl Strategy<Value = &'static str> {
    pick(&["a", "b", "c"])
}

fn group() -> impl Strategy<Value = Object> {
    let one = (
        pick(&["read", "write", "all", ""]),
        pick(&["", "/a.*", "/b", "(", "a**"]),
        pick(&[json!([]), json!(["GET"]), json!(["*"]), json!(["get"])]),
        pick(&[json!([]), json!([{"x-a": "1"}]), json!([{"x a": "1"}]), json!([{"host": ""}])]),
    );
    let one = one.prop_map(|(name, path, methods, headers)| {
        json!({"name": name, "pathRegex": path, "methods": methods, "headers": headers})
    });
    (name(), prop::collection::vec(one, 0..4)).prop_map(|(name, matches)| {
        let metadata = json!({"name": name, "namespace": "shop"});
        Object::HttpRouteGroup(read(json!({"metadata": metadata, "spec": {"matches": matches}})))
    })
}

fn route() -> impl Strategy<Value = Object> {
    (name(), prop::collection::vec(pick(&[80i64, 81, 0, 70000]), 0..3)).prop_map(|(name, ports)| {
        let metadata = json!({"name": name, "namespace": "shop"});
        Object::TcpRoute(read(json!({"metadata": metadata, "spec": {"matches": {"ports": ports}}})))
    })
}

fn subject(kinds: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (
        pick(kinds),
        pick(&["a", "b", "c", "a", "b", "c", "gone", ""]),
        pick(&["shop", "shop", "shop", "shop", "bank", ""]),
    )
        .prop_map(|(kind, name, namespace)| json!({"kind": kind, "name": name, "namespace": namespace}))
}

fn rule(kinds: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let matches = prop::collection::vec(pick(&["read", "write", "gone"]), 0..2);
    (pick(kinds), pick(&["a", "b", "c", "gone"]), matches)
        .prop_map(|(kind, name, matches)| json!({"kind": kind, "name": name, "matches": matches}))
}

fn target(
    name: impl Strategy<Value = String>,
    subjects: &'static [&'static str],
    rules: &'static [&'static str],
) -> impl Strategy<Value = Object> {
    let sources = prop::collection::vec(subject(subjects), 0..3);
    (name, subject(&["ServiceAccount"]), sources, prop::collection::vec(rule(rules), 0..3)).prop_map(
        |(name, destination, sources, rules)| {
            let spec = json!({"destination": destination, "sources": sources, "rules": rules});
            Object::TrafficTarget(read(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})))
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<Object>> {
    let name = (0..4u8).prop_map(|number| format!("target-{number}"));
    let any = target(name, &["ServiceAccount", "ServiceAccount", "Group"], &["HTTPRouteGroup", "TCPRoute", "UDPRoute"]);
    prop::collection::vec(prop_oneof![group().boxed(), route().boxed(), any.boxed()], 0..24)
}

/// A mesh of two namespaces, with other objects in it.
fn base(is_permissive: bool, ours: &[Object], others: &[Object]) -> Vec<Object> {
    let mut all = vec![namespace("shop", MONITORED_BY), namespace("bank", MONITORED_BY), mesh_config(is_permissive)];
    all.extend(ours.iter().chain(others).cloned());
    // One service that every account serves, on a port of each kind, so that there is always something to reach.
    for account in ["a", "b", "c"] {
        let annotations = json!({"openservicemesh.io/injected": "init"});
        let metadata = json!({"name": format!("all-{account}"), "namespace": "shop", "labels": {"all": "yes"}, "annotations": annotations});
        let spec = json!({"serviceAccountName": account, "containers": []});
        all.push(Object::Pod(read(json!({"metadata": metadata, "spec": spec}))));
    }
    let ports =
        json!([{"port": 80, "appProtocol": "http", "name": "h"}, {"port": 81, "appProtocol": "tcp", "name": "t"}]);
    let spec = json!({"clusterIP": "10.96.9.9", "selector": {"all": "yes"}, "ports": ports});
    all.push(Object::Service(read(json!({"metadata": {"name": "all", "namespace": "shop"}, "spec": spec}))));
    let endpoint = |(index, account): (usize, &&str)| json!({"addresses": [format!("10.244.9.{index}")], "targetRef": {"kind": "Pod", "name": format!("all-{account}")}});
    let endpoints: Vec<Value> = ["a", "b", "c"].iter().enumerate().map(endpoint).collect();
    let labels = json!({"kubernetes.io/service-name": "all"});
    let metadata = json!({"name": "all", "namespace": "shop", "labels": labels});
    let ports = json!([{"name": "h", "port": 80}, {"name": "t", "port": 81}]);
    all.push(Object::EndpointSlice(read(
        json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}),
    )));
    all
}

fn views(mesh: &Mesh) -> Vec<ProxyView> {
    mesh.classes().into_iter().map(|class| mesh.view(class)).collect()
}

/// Whether some object says, in so many words, that one may reach the other with a kind of rule.
fn is_written(objects: &[Object], from: &Identity, to: &Identity, kind: &str) -> bool {
    let is_named = |target: &TrafficTarget| {
        let is = |identity: &Identity, subject: &osm_api::Subject| {
            (&*subject.kind, &subject.namespace, &subject.name)
                == ("ServiceAccount", &identity.namespace, &identity.service_account)
        };
        is(to, &target.spec.destination)
            && target.spec.sources.iter().any(|source| is(from, source))
            && target.spec.rules.iter().any(|rule| rule.kind == kind)
    };
    objects.iter().any(|object| matches!(object, Object::TrafficTarget(target) if is_named(target)))
}

fn rule_kind(is_http: bool) -> &'static str {
    if is_http { "HTTPRouteGroup" } else { "TCPRoute" }
}

proptest! {
    #[test]
    fn without_a_rule_there_is_no_access(
        ours in objects("shop", 1), others in objects("bank", 2), policies in policies()
    ) {
        let mut all = base(false, &ours, &others);
        all.extend(policies);
        let mesh = mesh(&all);
        prop_assert_eq!(mesh.settings.access, Access::Granted);
        for view in views(&mesh) {
            let us = &view.class.identity;
            for service in &view.outbound {
                prop_assert!(!service.ports.is_empty());
                for identity in &service.identities {
                    let is_named = |kind| is_written(&all, us, identity, kind);
                    prop_assert!(is_named("HTTPRouteGroup") || is_named("TCPRoute"), "{us} sees {identity}");
                }
                for port in service.ports.values() {
                    let is_open = |to: &Identity| is_written(&all, us, to, rule_kind(port.protocol.is_http()));
                    prop_assert!(service.identities.iter().any(is_open), "{us} sees {service:?}");
                    prop_assert!(port.endpoints.iter().all(|endpoint| is_open(&endpoint.identity)));
                }
            }
            let Admitted::Granted(grants) = &view.admitted else { panic!("not everybody is admitted") };
            for grant in grants.values() {
                for source in &grant.sources {
                    prop_assert!(grant.http.is_empty() || is_written(&all, source, us, "HTTPRouteGroup"));
                    prop_assert!(grant.tcp.is_empty() || is_written(&all, source, us, "TCPRoute"));
                }
            }
        }
    }

    #[test]
    fn a_grant_that_cannot_be_understood_admits_nobody(ours in objects("shop", 1), policies in policies()) {
        let mut all = base(false, &ours, &[]);
        all.extend(policies);
        // One fault in each: in who reaches it, in what is reached, or in the rule.
        let mut fault = 0;
        for object in &mut all {
            let Object::TrafficTarget(target) = object else { continue };
            fault += 1;
            match fault % 4 {
                0 => target.spec.destination.namespace = "bank".to_owned(),
                1 => target.spec.sources.iter_mut().for_each(|source| source.kind = "User".to_owned()),
                2 => target.spec.rules.iter_mut().for_each(|rule| rule.kind.make_ascii_lowercase()),
                _ => target.spec.rules.iter_mut().for_each(|rule| rule.matches = vec!["gone".to_owned()]),
            }
        }
        let mesh = mesh(&all);
        prop_assert!(mesh.grants.is_empty(), "{:?}", mesh.grants);
        for view in views(&mesh) {
            prop_assert_eq!(view.outbound, Vec::new());
            prop_assert_eq!(view.admitted, Admitted::Granted(Default::default()));
        }
    }

    #[test]
    fn permissive_views_do_not_change_by_policies(
        ours in objects("shop", 1), others in objects("bank", 2), policies in policies()
    ) {
        let mut all = base(true, &ours, &others);
        let without = views(&mesh(&all));
        all.extend(policies);
        prop_assert_eq!(views(&mesh(&all)), without);
    }

    #[test]
    fn a_view_does_not_change_by_what_it_cannot_reach(
        ours in objects("shop", 1), others in objects("bank", 2), policies in policies()
    ) {
        let mut all = base(false, &ours, &[]);
        all.extend(policies);
        // Nobody is granted anything in the other namespace; its own accounts may be sources here.
        let known = |all: &[Object]| -> Vec<_> {
            let mesh = mesh(all);
            let ours = mesh.classes().into_iter().filter(|class| class.identity.namespace == "shop");
            ours.map(|class| (class.clone(), mesh.view(class).outbound)).collect()
        };
        let before = known(&all);
        all.extend(others);
        prop_assert_eq!(known(&all), before);
    }

    #[test]
    fn one_more_policy_takes_nothing_away(ours in objects("shop", 1), policies in policies(), more in policies()) {
        let mut all = base(false, &ours, &[]);
        all.extend(policies);
        let before = mesh(&all);
        // Only grants: another version of a route would replace it.
        let more = more.into_iter().filter_map(|object| match object {
            Object::TrafficTarget(mut target) => {
                target.metadata.name.as_mut().expect("it has a name").insert_str(0, "more-");
                Some(Object::TrafficTarget(target))
            }
            _ => None,
        });
        all.extend(more);
        let after = mesh(&all);
        for class in before.classes() {
            let reached = after.view(class).outbound;
            for service in before.view(class).outbound {
                let now: Option<&Service> = reached.iter().find(|now| now.name == service.name).map(|now| &**now);
                let Some(now) = now else { panic!("{} is out of reach now", service.name) };
                prop_assert!(service.ports.keys().all(|number| now.ports.contains_key(number)));
                prop_assert!(service.identities.is_subset(&now.identities));
            }
        }
    }

    #[test]
    fn what_is_explained_is_what_is_granted(ours in objects("shop", 1), policies in policies()) {
        let mut all = base(false, &ours, &[]);
        all.extend(policies);
        let (world, mesh) = (world(&all), mesh(&all));
        for class in mesh.classes() {
            let view = mesh.view(class);
            for service in mesh.services.values() {
                for number in service.ports.keys() {
                    let question = Question {
                        from: Caller::Identity(class.identity.clone()),
                        to: Destination::Service(service.name.clone()),
                        port: Some(*number),
                        request: Request::default(),
                    };
                    let explained = explain(&world, &ResolveOptions::default(), &question, &[]);
                    let is_seen = view.outbound.iter().any(|seen| seen.name == service.name && seen.ports.contains_key(number));
                    prop_assert_eq!(explained.verdict != Verdict::Denied, is_seen, "{:?}", explained);
                    prop_assert_eq!(explained.answers.len(), 1);
                    prop_assert_eq!(explained.answers[0].needs.is_empty(), is_seen);
                    prop_assert!(!explained.answers[0].why.is_empty());
                }
            }
        }
    }
}
