//! Details of the protocol, one by one.

use std::{collections::BTreeMap, sync::Arc};

use osm_xds::{
    Rejection, Replica, Request, Resource,
    ResourceType::{self, Cluster, Endpoint, Listener, Route, Secret},
    Resources, Response, Session, SessionStatus,
};

/// Resources by type, each `name` or `name=content`.
fn resources(of: &[(ResourceType, &str)]) -> Arc<Resources> {
    let resource = |text: &str| {
        let (name, content) = text.split_once('=').unwrap_or((text, ""));
        Resource::new(name, content.as_bytes())
    };
    let named = of.iter().flat_map(|(ty, names)| names.split_whitespace().map(|text| (*ty, resource(text))));
    Arc::new(named.collect())
}

/// `cluster 1: +new -gone`
fn said(responses: Vec<Response>) -> Vec<String> {
    let text = |response: Response| {
        let added = response.resources.iter().map(|resource| format!(" +{}", resource.name));
        let removed = response.removed.iter().map(|name| format!(" -{name}"));
        format!("{} {}:{}", response.ty, response.nonce, added.chain(removed).collect::<String>())
    };
    responses.into_iter().map(text).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_empty_request_for_clusters_or_listeners_wants_all_of_them() {
    let mut session = Session::new(resources(&[(Cluster, "a b"), (Listener, "l"), (Route, "r")]));
    assert_eq!(said(session.on_request(Request::empty(Cluster))), ["cluster 1: +a +b"]);
    assert_eq!(said(session.on_request(Request::empty(Listener))), ["listener 2: +l"]);
    assert_eq!(said(session.on_request(Request::empty(Route))), NOTHING, "routes are asked for by name");
    assert_eq!(said(session.on_request(Request::accept(Cluster, "1"))), NOTHING, "an answer is no wildcard");
}

#[test]
fn a_wildcard_is_answered_even_if_there_is_nothing() {
    let mut session = Session::new(Arc::default());
    assert_eq!(said(session.on_request(Request::empty(Cluster))), ["cluster 1:"]);
    assert!(session.status().of(Cluster).in_flight);
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["*"]))), ["endpoint 2:"]);
}

#[test]
fn a_name_that_does_not_exist_is_answered_and_comes_when_it_does() {
    let mut session = Session::new(Arc::default());
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["a"]))), ["endpoint 1: -a"]);
    assert_eq!(said(session.on_resources(resources(&[(Endpoint, "a")]))), NOTHING, "one in flight per type");
    assert_eq!(session.status().of(Endpoint).waiting, ["a"]);
    assert_eq!(said(session.on_request(Request::accept(Endpoint, "1"))), ["endpoint 2: +a"]);
}

#[test]
fn a_name_asked_for_again_is_answered_again() {
    let mut session = Session::new(resources(&[(Secret, "root-cert")]));
    assert_eq!(said(session.on_request(Request::subscribe(Secret, ["root-cert"]))), ["secret 1: +root-cert"]);
    session.on_request(Request::accept(Secret, "1"));
    assert_eq!(said(session.on_request(Request::subscribe(Secret, ["root-cert"]))), ["secret 2: +root-cert"]);
    session.on_request(Request::accept(Secret, "2"));
    // Let go and taken up in one request: the client wants it, and may have forgotten it.
    let both = Request { unsubscribe: vec!["root-cert".into()], ..Request::subscribe(Secret, ["root-cert"]) };
    assert_eq!(said(session.on_request(both)), ["secret 3: +root-cert"]);
}

#[test]
fn a_stale_answer_changes_nothing_but_its_subscription_counts() {
    let mut session = Session::new(resources(&[(Endpoint, "a b")]));
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["a"]))), ["endpoint 1: +a"]);
    let stale = Request { subscribe: vec!["b".into()], ..Request::reject(Endpoint, "0", "no") };
    assert_eq!(said(session.on_request(stale)), NOTHING);
    let status = session.status().of(Endpoint);
    assert_eq!((status.in_flight, status.refused, status.waiting), (true, 0, vec!["b".to_owned()]));
    assert_eq!(said(session.on_request(Request::accept(Endpoint, "1"))), ["endpoint 2: +b"]);
}

#[test]
fn a_secret_that_does_not_exist_is_waited_for() {
    let mut session = Session::new(resources(&[(Secret, "root-cert")]));
    let both = Request::subscribe(Secret, ["root-cert", "service-cert"]);
    assert_eq!(said(session.on_request(both)), ["secret 1: +root-cert"]);
    assert_eq!(said(session.on_request(Request::accept(Secret, "1"))), NOTHING);
    assert_eq!(session.status().of(Secret).waiting, ["service-cert"]);
    let all = resources(&[(Secret, "root-cert service-cert")]);
    assert_eq!(said(session.on_resources(all)), ["secret 2: +service-cert"]);
}

/// A client that has accepted clusters `a`, listener `l` and route `r`.
fn settled(initial: &[(ResourceType, &str)]) -> Session {
    let mut session = Session::new(resources(initial));
    let first = [
        Request::empty(Cluster),
        Request::subscribe(Endpoint, ["a"]),
        Request::empty(Listener),
        Request::subscribe(Route, ["r"]),
    ];
    for request in first {
        for response in session.on_request(request) {
            session.on_request(Request::accept(response.ty, response.nonce));
        }
    }
    assert!(session.status().is_settled(), "{:#?}", session.status());
    session
}

const BEFORE: &[(ResourceType, &str)] = &[(Cluster, "a"), (Endpoint, "a"), (Listener, "l"), (Route, "r")];

#[test]
fn routes_wait_for_clusters_and_clusters_go_when_no_route_uses_them() {
    let mut session = settled(BEFORE);
    let after = resources(&[(Cluster, "b"), (Endpoint, "b"), (Listener, "l"), (Route, "r=b")]);
    assert_eq!(said(session.on_resources(after)), ["cluster 5: +b"]);
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["b"]))), ["endpoint 6: +b"]);
    assert_eq!(said(session.on_request(Request::accept(Endpoint, "6"))), NOTHING, "the cluster still warms");
    assert_eq!(session.status().of(Cluster).leaving, ["a"]);
    assert_eq!(said(session.on_request(Request::accept(Cluster, "5"))), ["route 7: +r"]);
    assert_eq!(said(session.on_request(Request::accept(Route, "7"))), ["cluster 8: -a", "endpoint 9: -a"]);
}

#[test]
fn a_changed_cluster_brings_its_load_assignment_again() {
    let mut session = settled(BEFORE);
    let after = resources(&[(Cluster, "a=changed"), (Endpoint, "a"), (Listener, "l"), (Route, "r")]);
    assert_eq!(said(session.on_resources(after)), ["cluster 5: +a", "endpoint 6: +a"]);
}

#[test]
fn a_client_that_copies_everything_needs_no_load_assignment_again() {
    let mut session = Session::new(resources(BEFORE));
    session.on_request(Request::subscribe(Cluster, ["*"]));
    session.on_request(Request::subscribe(Endpoint, ["*"]));
    session.on_request(Request::accept(Cluster, "1"));
    session.on_request(Request::accept(Endpoint, "2"));
    assert_eq!(said(session.on_resources(resources(&[(Cluster, "a=2"), (Endpoint, "a")]))), ["cluster 3: +a"]);
}

#[test]
fn a_route_that_a_listener_waits_for_does_not_wait_for_warming_clusters() {
    let mut session = settled(BEFORE);
    let more = resources(&[(Cluster, "a b"), (Endpoint, "a b"), (Listener, "l"), (Route, "r s")]);
    assert_eq!(said(session.on_resources(more)), ["cluster 5: +b"]);
    assert_eq!(said(session.on_request(Request::subscribe(Route, ["s"]))), ["route 6: +s"]);
}

#[test]
fn a_rejected_version_is_told_once_and_keeps_what_it_may_still_use() {
    let mut session = settled(BEFORE);
    let bad = resources(&[(Cluster, ""), (Endpoint, ""), (Listener, "l"), (Route, "r=bad")]);
    assert_eq!(said(session.on_resources(bad.clone())), ["route 5: +r"]);
    assert_eq!(said(session.on_request(Request::reject(Route, "5", "no cluster in route r"))), NOTHING);
    assert_eq!(said(session.on_resources(bad)), NOTHING);
    let status = session.status();
    let rejection = Rejection { names: vec!["r".into()], message: "no cluster in route r".into() };
    assert_eq!(status.rejected().collect::<Vec<_>>(), [(Route, &rejection)]);
    assert_eq!(status.of(Cluster).leaving, ["a"], "the route before it still uses the cluster");
    assert!(!status.is_settled());
    let good = resources(&[(Listener, "l"), (Route, "r=good")]);
    assert_eq!(said(session.on_resources(good)), ["route 6: +r"]);
    assert_eq!(said(session.on_request(Request::accept(Route, "6"))), ["cluster 7: -a", "endpoint 8: -a"]);
    assert_eq!(session.status().rejected().next(), None);
}

#[test]
fn only_the_resources_that_the_message_names_are_blamed() {
    let mut session = Session::new(resources(&[(Cluster, "shop/web|80 shop/web|8080 shop/db|5432")]));
    session.on_request(Request::empty(Cluster));
    session.on_request(Request::reject(Cluster, "1", "cannot add cluster(s) shop/web|8080: no filter"));
    assert_eq!(session.status().of(Cluster).rejected[0].names, ["shop/web|8080"]);
    assert!(session.status().of(Cluster).is_idle(), "the others were applied");
}

#[test]
fn a_message_without_names_blames_all_and_is_bounded() {
    let mut session = Session::new(resources(&[(Listener, "l m")]));
    session.on_request(Request::empty(Cluster));
    session.on_request(Request::empty(Listener));
    session.on_request(Request::reject(Listener, "2", "ö".repeat(1_000_000)));
    let rejected = &session.status().of(Listener).rejected;
    assert_eq!(rejected[0].names, ["l", "m"]);
    assert_eq!(rejected[0].message.len(), 4096);
}

#[test]
fn a_client_that_comes_back_is_sent_what_changed_meanwhile() {
    let then = resources(&[(Cluster, "a b gone"), (Secret, "s t")]);
    let now = resources(&[(Cluster, "a b=2 new"), (Secret, "s t=2")]);
    let versions = |ty| -> BTreeMap<_, _> {
        then.of(ty).values().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
    };
    let mut session = Session::new(now);
    let back = Request { initial_versions: versions(Cluster), ..Request::empty(Cluster) };
    assert_eq!(said(session.on_request(back)), ["cluster 1: +b +new"]);
    let back = Request { initial_versions: versions(Secret), ..Request::subscribe(Secret, ["s", "t"]) };
    assert_eq!(said(session.on_request(back)), ["secret 2: +t"]);
    // What is gone goes when the client has said which listeners it has.
    session.on_request(Request::accept(Cluster, "1"));
    let responses = said(session.on_request(Request::empty(Listener)));
    assert_eq!(responses, ["listener 3:"]);
    assert_eq!(said(session.on_request(Request::accept(Listener, "3"))), ["cluster 4: -gone"]);
}

#[test]
fn a_client_that_comes_back_gets_the_load_assignments_it_names_for_a_cluster_may_be_warming() {
    let all = resources(&[(Endpoint, "a")]);
    let version = all.get(Endpoint, "a").unwrap().version.clone();
    let known = BTreeMap::from([("a".to_owned(), version)]);
    let by_name = Request { initial_versions: known.clone(), ..Request::subscribe(Endpoint, ["a"]) };
    assert_eq!(said(Session::new(all.clone()).on_request(by_name)), ["endpoint 1: +a"]);
    let as_copy = Request { initial_versions: known, ..Request::subscribe(Endpoint, ["*"]) };
    assert_eq!(said(Session::new(all).on_request(as_copy)), ["endpoint 1:"]);
}

#[test]
fn nothing_is_owed_for_names_let_go() {
    let mut session = Session::new(resources(&[(Endpoint, "a b")]));
    session.on_request(Request::subscribe(Endpoint, ["a", "b"]));
    session.on_request(Request::accept(Endpoint, "1"));
    session.on_request(Request::unsubscribe(Endpoint, ["a"]));
    assert_eq!(said(session.on_resources(resources(&[(Endpoint, "a=2 b")]))), NOTHING);
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["a"]))), ["endpoint 2: +a"]);
    // Under a wildcard the client cannot know whether it still gets a name that it lets go.
    session.on_request(Request::accept(Endpoint, "2"));
    assert_eq!(said(session.on_request(Request::subscribe(Endpoint, ["*"]))), ["endpoint 3:"]);
    session.on_request(Request::accept(Endpoint, "3"));
    assert_eq!(said(session.on_request(Request::unsubscribe(Endpoint, ["a"]))), ["endpoint 4: +a"]);
    session.on_request(Request::accept(Endpoint, "4"));
    assert_eq!(said(session.on_request(Request::unsubscribe(Endpoint, ["*"]))), NOTHING);
    assert_eq!(said(session.on_resources(resources(&[(Endpoint, "a=3 b=3")]))), ["endpoint 5: +b"]);
}

#[test]
fn versions_follow_the_content_and_nothing_else() {
    let one = resources(&[(Cluster, "a=1 b=2"), (Route, "r")]);
    let mut other = (*resources(&[(Route, "r"), (Cluster, "b=1 a=1 c")])).clone();
    assert_ne!(one.version(), other.version());
    other.insert(Cluster, Resource::new("b", b"2".as_slice()));
    other.remove(Cluster, "c");
    assert_eq!(*one, other);
    assert_eq!(one.version(), other.version());
    assert_eq!(one.version_of(Cluster), other.version_of(Cluster));
    assert_ne!(one.version_of(Cluster), one.version_of(Route));
    // The same name in another type is another resource.
    assert_ne!(resources(&[(Cluster, "a")]).version(), resources(&[(Endpoint, "a")]).version());
}

#[test]
fn a_body_is_never_printed() {
    let mut resources = Resources::default();
    resources.insert(Secret, Resource::new("service-cert", b"PRIVATE KEY".as_slice()));
    let printed = format!("{resources:?} {:?}", resources.get(Secret, "service-cert"));
    assert!(printed.contains("service-cert") && !printed.contains("80, 82"), "{printed}");
}

#[test]
fn a_replica_answers_only_when_the_proxy_has() {
    let upstream = resources(BEFORE);
    let mut controller = Session::new(upstream.clone());
    let mut replica = Replica::new();
    let mut proxy = Session::new(Arc::default());
    let on_connect = replica.on_connect(&proxy.status());
    for request in on_connect {
        controller.on_request(request).into_iter().for_each(|response| replica.on_response(response));
    }
    assert!(replica.is_complete(), "a new client need not answer to get the rest");
    assert_eq!(*replica.resources(), *upstream);
    assert_eq!(replica.relay(&proxy.status()), [], "there is no proxy yet");
    let mut other = settled(&[(Cluster, "a=other"), (Endpoint, "a=other"), (Listener, "l=other"), (Route, "r=other")]);
    assert_eq!(replica.relay(&other.status()), [], "it has accepted something else");
    other.on_resources(replica.resources());
    assert_eq!(replica.relay(&other.status()), [], "it has not accepted this yet");
    proxy.on_resources(replica.resources());
    assert_eq!(said(proxy.on_request(Request::empty(Cluster))), ["cluster 1: +a"]);
    assert_eq!(said(proxy.on_request(Request::subscribe(Endpoint, ["a"]))), ["endpoint 2: +a"]);
    assert_eq!(replica.relay(&proxy.status()), []);
    proxy.on_request(Request::accept(Endpoint, "2"));
    assert_eq!(replica.relay(&proxy.status()), [Request::accept(Endpoint, "2")]);
    proxy.on_request(Request::reject(Cluster, "1", "no such filter in a"));
    assert_eq!(replica.relay(&proxy.status()), [Request::reject(Cluster, "1", "no such filter in a")]);
    // On a new connection the rejected one is asked for again, so that the new server hears of it.
    let again = replica.on_connect(&proxy.status());
    assert_eq!(again[0].initial_versions, BTreeMap::from([("a".to_owned(), String::new())]));
    assert_ne!(again[1].initial_versions["a"], "");
    let mut controller = Session::new(upstream);
    controller.on_request(again[0].clone()).into_iter().for_each(|response| replica.on_response(response));
    assert_eq!(replica.relay(&proxy.status()), [Request::reject(Cluster, "1", "no such filter in a")]);
}

#[test]
fn a_replica_from_an_earlier_life_asks_for_the_difference_and_is_current_when_all_of_it_is_there() {
    let earlier = resources(&[(Cluster, "a b"), (Endpoint, "a b"), (Listener, "l=old"), (Route, "r")]);
    let present = resources(&[(Cluster, "a"), (Endpoint, "a=2"), (Listener, "l=new"), (Route, "r")]);
    let mut replica = Replica::from_earlier(earlier.clone());
    assert_eq!((replica.is_complete(), replica.is_current()), (true, false));
    let mut controller = Session::new(present.clone());
    let accepts =
        |replica: &mut Replica| ResourceType::ALL.map(|ty| replica.acknowledge(ty, None)).into_iter().flatten();
    let mut requests = replica.on_connect(&SessionStatus::default());
    assert_eq!(requests[2].initial_versions["l"], earlier.get(Listener, "l").unwrap().version);
    let mut told = Vec::new();
    while !requests.is_empty() {
        let has_listener = replica.resources().get(Listener, "l") == present.get(Listener, "l");
        assert!(has_listener || !replica.is_current(), "the listener waits for the clusters to be accepted");
        for request in requests {
            let responses = controller.on_request(request);
            responses.iter().for_each(|response| replica.on_response(response.clone()));
            told.extend(said(responses));
        }
        requests = accepts(&mut replica).collect();
    }
    assert!(replica.is_current());
    assert_eq!(*replica.resources(), *present);
    assert!(!told.iter().any(|text| text.contains("+a +b") || text.contains("+r")), "{told:?}");
    replica.on_connect(&SessionStatus::default());
    assert!(!replica.is_current(), "a new connection has said nothing yet");
}
