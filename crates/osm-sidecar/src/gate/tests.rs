use osm_xds::ResourceType;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

/// A sidecar that is programmed.
fn programmed() -> Facts {
    Facts {
        now: at(0),
        identity: Identity::Held(at(86_400)),
        upstream: Upstream { configuration: Configuration::Told, is_connected: true, obstacle: None },
        envoy: Envoy::Running { run: 1, pid: 42 },
        answer: Some(Answer {
            run: 1,
            state: "LIVE".into(),
            has_workers: true,
            listeners_active: 2,
            listeners_warming: 0,
            clusters_warming: 0,
            connections: 0,
        }),
        session: Some(Acknowledged::default()),
    }
}

fn missing(change: impl FnOnce(&mut Facts)) -> Vec<(String, Owner)> {
    let mut facts = programmed();
    change(&mut facts);
    let gate = Gate::default().after(&facts);
    assert_eq!(gate.is_open(), gate.missing().is_empty());
    gate.missing().iter().map(|m| (m.what.clone(), m.owner)).collect()
}

fn check(change: impl FnOnce(&mut Facts), owner: Owner, what: &str) {
    assert_eq!(missing(change), [(what.to_owned(), owner)]);
}

fn answer(facts: &mut Facts) -> &mut Answer {
    facts.answer.as_mut().unwrap()
}

#[test]
fn with_everything_there_the_gate_is_open() {
    assert!(missing(|_| ()).is_empty());
}

#[test]
fn nothing_observed_is_closed() {
    assert!(!Gate::default().is_open());
}

#[test]
fn a_certificate_that_is_not_there_says_why() {
    check(
        |f| f.identity = Identity::Asked,
        Owner::Controller,
        "the workload certificate is asked for and not issued yet",
    );
    let refused = Obstacle { reason: Reason::TokenExpired, what: "token refused (401): expired".into() };
    check(
        |f| f.identity = Identity::Refused(refused),
        Owner::Token,
        "the workload certificate is not issued: token refused (401): expired",
    );
    check(
        |f| f.identity = Identity::Held(at(0)),
        Owner::Node,
        "the workload certificate expired at 2030-03-17T17:46:40Z and is not renewed",
    );
}

#[test]
fn the_controller_that_cannot_be_reached_and_the_one_that_does_not_know_the_pod_are_told_apart() {
    check(
        |f| {
            let why = Obstacle { reason: Reason::ControllerRefused, what: "cannot reach c:1: refused".into() };
            f.upstream = Upstream { obstacle: Some(why), ..Upstream::default() };
        },
        Owner::Controller,
        "no configuration: cannot reach c:1: refused",
    );
    check(
        |f| f.upstream = Upstream { is_connected: true, ..Upstream::default() },
        Owner::Controller,
        "no configuration: connected to the controller, which has not sent this pod's configuration yet; it may not \
         know the pod yet",
    );
}

#[test]
fn a_last_good_state_does_until_its_end_and_then_says_so() {
    let term = Term { confirmed: at(0), until: at(60) };
    let unreachable = || Some(Obstacle { reason: Reason::ControllerRefused, what: "cannot reach c:1: refused".into() });
    let upstream = |configuration| Upstream { configuration, is_connected: false, obstacle: unreachable() };
    let from_last_good = |f: &mut Facts| {
        f.upstream = upstream(Configuration::LastGood(term));
        f.identity = Identity::Restored(at(86_400));
    };
    assert!(missing(from_last_good).is_empty());
    check(
        |f| f.identity = Identity::Restored(at(0)),
        Owner::Node,
        "the workload certificate expired at 2030-03-17T17:46:40Z and is not renewed",
    );
    check(
        |f| f.upstream = upstream(Configuration::Ended(term)),
        Owner::Controller,
        "no configuration: cannot reach c:1: refused; the last good state, which the controller confirmed at \
         2030-03-17T17:46:40Z, could be used until 2030-03-17T17:47:40Z",
    );
    let unusable = Configuration::Absent { last_good_unusable: Some("its checksum is wrong".into()) };
    check(
        |f| f.upstream = upstream(unusable),
        Owner::Controller,
        "no configuration: cannot reach c:1: refused; the last good state is not used: its checksum is wrong",
    );
}

#[test]
fn after_the_end_of_a_last_good_state_the_run_must_be_programmed_anew() {
    let open = Gate::default().after(&programmed());
    let mut facts = programmed();
    facts.upstream.configuration = Configuration::Ended(Term { confirmed: at(0), until: at(0) });
    let ended = open.after(&facts);
    facts = programmed();
    answer(&mut facts).listeners_active = 0;
    assert!(!ended.after(&facts).is_open());
    answer(&mut facts).listeners_active = 2;
    assert!(ended.after(&facts).is_open());
}

#[test]
fn a_rejection_is_told_in_envoys_words() {
    let rejected = Rejected {
        kind: ResourceType::Listener,
        names: vec!["inbound-listener".into()],
        message: "no such filter".into(),
    };
    check(
        |f| f.session = Some(Acknowledged { rejected: vec![rejected], ..Acknowledged::default() }),
        Owner::Controller,
        "Envoy rejected listener inbound-listener: no such filter",
    );
}

#[test]
fn a_port_that_somebody_else_has_is_no_fault_of_the_configuration() {
    let rejected = Rejected {
        kind: ResourceType::Listener,
        names: vec!["outbound-listener".into()],
        message: "error adding listener: cannot bind '0.0.0.0:15001': Address already in use".into(),
    };
    let mut facts = programmed();
    facts.session = Some(Acknowledged { rejected: vec![rejected], ..Acknowledged::default() });
    assert_eq!(Gate::default().after(&facts).missing()[0].reason, Reason::PortInUse);
}

#[test]
fn envoy_that_cannot_be_started_and_one_that_ended_are_told_apart() {
    let reason = |envoy| {
        let mut facts = programmed();
        facts.envoy = envoy;
        Gate::default().after(&facts).missing()[0].reason
    };
    assert_eq!(reason(Envoy::Unstartable("no such file".into())), Reason::EnvoyUnstartable);
    assert_eq!(reason(Envoy::Ended { why: "exited with status 1".into(), is_hung: false }), Reason::EnvoyEnded);
    assert_eq!(reason(Envoy::Absent), Reason::EnvoyPending);
}

#[test]
fn both_listeners_must_have_been_sent_and_acknowledged() {
    let absent = Acknowledged { absent_listeners: vec!["inbound-listener"], ..Acknowledged::default() };
    check(|f| f.session = Some(absent), Owner::Controller, "the controller has not sent inbound-listener");
    let pending =
        Acknowledged { pending: vec![ResourceType::Cluster, ResourceType::Secret], ..Acknowledged::default() };
    check(|f| f.session = Some(pending), Owner::Envoy, "Envoy has not acknowledged: cluster, secret");
    let unrequested = BTreeMap::from([(ResourceType::Route, vec!["r".to_owned()])]);
    let unrequested = Acknowledged { unrequested, ..Acknowledged::default() };
    check(|f| f.session = Some(unrequested), Owner::Envoy, "Envoy has not asked for route r");
    let many = (0..5000).map(|index| format!("e{index}")).collect();
    let unrequested = BTreeMap::from([(ResourceType::Endpoint, many)]);
    let unrequested = Acknowledged { unrequested, ..Acknowledged::default() };
    let words = "Envoy has not asked for endpoint e0, e1, e2, e3, e4 and 4995 more";
    check(|f| f.session = Some(unrequested), Owner::Envoy, words);
}

#[test]
fn live_alone_does_not_open_the_gate() {
    let changes: [fn(&mut Facts); 5] = [
        |f| answer(f).state = "INITIALIZING".into(),
        |f| answer(f).has_workers = false,
        |f| answer(f).listeners_active = 1,
        |f| answer(f).listeners_warming = 1,
        |f| answer(f).clusters_warming = 1,
    ];
    for change in changes {
        let missing = missing(change);
        assert!(missing.len() == 1 && missing[0].0.starts_with("Envoy is "), "{missing:?}");
    }
}

#[test]
fn an_envoy_that_says_nothing_at_all_is_silent_and_one_that_answers_has_not_asked() {
    let silent = missing(|f| (f.session, f.answer) = (None, None));
    assert_eq!(silent, [("Envoy does not answer on its admin socket yet".to_owned(), Owner::Envoy)]);
    let idle = missing(|f| f.session = None);
    assert_eq!(idle, [("Envoy has not asked for its configuration yet".to_owned(), Owner::Envoy)]);
}

#[test]
fn the_answer_of_an_earlier_run_does_not_count() {
    check(|f| answer(f).run = 0, Owner::Envoy, "Envoy does not answer on its admin socket yet");
}

#[test]
fn once_open_the_gate_stays_open_for_the_run_whatever_an_update_does() {
    let open = Gate::default().after(&programmed());
    let mut facts = programmed();
    facts.session = None;
    facts.upstream.is_connected = false;
    answer(&mut facts).clusters_warming = 3;
    assert!(open.after(&facts).is_open());
    facts.identity = Identity::Held(at(-1));
    let expired = open.after(&facts);
    assert!(!expired.is_open());
    facts.identity = Identity::Held(at(1));
    assert!(expired.after(&facts).is_open());
}

#[test]
fn when_envoy_dies_the_gate_closes_until_the_next_run_is_programmed() {
    let open = Gate::default().after(&programmed());
    let mut facts = programmed();
    facts.envoy = Envoy::Ended { why: "was killed by signal 9".into(), is_hung: false };
    let closed = open.after(&facts);
    assert_eq!(closed.to_string(), "Envoy was killed by signal 9; it is started again");
    facts.envoy = Envoy::Running { run: 2, pid: 43 };
    let starting = closed.after(&facts);
    assert!(!starting.is_open());
    answer(&mut facts).run = 2;
    assert!(starting.after(&facts).is_open());
}

#[test]
fn an_envoy_that_ends_time_and_again_says_so_until_it_answers() {
    let silent = |run| Facts { envoy: Envoy::Running { run, pid: 42 }, answer: None, session: None, ..programmed() };
    let ended = |second, is_hung| {
        let envoy = Envoy::Ended { why: "exited with status 1".into(), is_hung };
        Facts { now: at(second), envoy, ..silent(1) }
    };
    let reason = |gate: &Gate| gate.missing()[0].reason;
    let first = Gate::default().after(&silent(1));
    assert_eq!(reason(&first), Reason::EnvoySilent);
    let again = first.after(&ended(1, false)).after(&Facts { now: at(2), ..silent(2) });
    assert_eq!(again.to_string(), "Envoy exited with status 1; it has been started again and does not answer yet");
    assert_eq!((reason(&again), again.missing()[0].since), (Reason::EnvoyEnded, at(1)));
    assert_eq!(reason(&again.after(&ended(3, true)).after(&silent(3))), Reason::EnvoySilent);
    let answered = again.after(&Facts { session: None, ..programmed() });
    assert_eq!(reason(&answered), Reason::EnvoyUnacknowledged);
    assert_eq!(reason(&answered.after(&silent(2))), Reason::EnvoySilent);
}

#[test]
fn since_stays_while_the_words_change_and_starts_anew_after_it_was_there() {
    let mut facts = programmed();
    facts.identity = Identity::Asked;
    let first = Gate::default().after(&facts);
    facts.now = at(5);
    facts.identity = Identity::Refused(Obstacle { reason: Reason::TokenRefused, what: "no".into() });
    let second = first.after(&facts);
    assert_eq!((second.missing()[0].since, second.missing()[0].owner), (at(0), Owner::Token));
    facts.identity = Identity::Held(at(86_400));
    let open = second.after(&facts);
    facts.now = at(9);
    facts.identity = Identity::Asked;
    assert_eq!(open.after(&facts).missing()[0].since, at(9));
}

#[test]
fn services_that_are_waited_for_are_named_until_the_gate_has_once_been_open() {
    let lacking = |upstream: &str, is_known, until| Lacking { upstream: upstream.into(), is_known, until };
    let session = |lacking: Vec<Lacking>| Some(Acknowledged { lacking, ..Acknowledged::default() });
    check(
        |f| f.session = session(vec![lacking("shop/api", true, None), lacking("shop/db:5432", false, None)]),
        Owner::Upstream,
        "it is to wait for other services: shop/api has no endpoint; shop/db:5432 is no service of the mesh that this pod may call",
    );
    let until = Some(at(60));
    check(
        |f| f.session = session(vec![lacking("shop/api", true, until)]),
        Owner::Upstream,
        "it is to wait for other services: shop/api has no endpoint, until 2030-03-17T17:47:40Z at most",
    );

    let waits = Facts { session: session(vec![lacking("shop/api", true, None)]), ..programmed() };
    let opened = Gate::default().after(&waits).after(&programmed());
    assert!(opened.is_open());
    // Neither a service that goes later nor a new Envoy meanwhile closes it again.
    assert!(opened.after(&waits).is_open());
    let next_run = |facts: Facts| Facts {
        envoy: Envoy::Running { run: 2, pid: 43 },
        answer: facts.answer.map(|answer| Answer { run: 2, ..answer }),
        ..facts
    };
    let restarted =
        opened.after(&Facts { envoy: Envoy::Ended { why: "was killed".into(), is_hung: false }, ..programmed() });
    assert!(!restarted.is_open());
    assert!(restarted.after(&next_run(waits)).is_open());
}
