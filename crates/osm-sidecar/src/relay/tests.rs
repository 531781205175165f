use jiff::SignedDuration;
use osm_xds::{Rejection, Resource, TypeStatus};

use super::*;
use crate::identity::Workload;

fn now() -> Timestamp {
    Timestamp::from_second(1_900_000_000).unwrap()
}

fn in_seconds(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn workload(ends_in: i64) -> Arc<Workload> {
    Arc::new(Workload {
        key_pem: "KEY".to_owned().into(),
        chain_pem: "CHAIN".into(),
        bundle_pem: "ROOTS".into(),
        issued: now(),
        not_after: in_seconds(ends_in),
    })
}

/// The two listeners, in this version.
fn copy(version: &str) -> Arc<Resources> {
    let listener = |name: &&str| (ResourceType::Listener, Resource::new(*name, version.as_bytes()));
    Arc::new(gate::LISTENERS.iter().map(listener).collect())
}

fn found(limit: i64) -> Found {
    let content = Content { workload: workload(1000), copy: copy("1"), refusals: Vec::new() };
    Found::Usable(Usable { content: Arc::new(content), confirmed: in_seconds(-9), limit: in_seconds(limit) })
}

fn connected(is_current: bool) -> ConnectionState<Obstacle> {
    ConnectionState::Connected { since: now(), is_current }
}

/// An agent that has just begun from `copy("1")`, with an Envoy that has said nothing yet.
fn seen() -> Seen {
    Seen {
        now: now(),
        connection: ConnectionState::Connecting { since: now() },
        copy: Some(copy("1")),
        workload: Some(workload(1000)),
        status: SessionStatus::default(),
        envoy: gate::Envoy::Running { run: 1, pid: 1 },
    }
}

/// Envoy has answered for all that it was given, and refused these listeners.
fn answered(relay: &Relay, refused: &[&str]) -> SessionStatus {
    let given = relay.given.as_ref().unwrap();
    let rejection = |name: &&str| Rejection { names: vec![(*name).to_owned()], message: "no such filter".into() };
    let of = |ty: ResourceType| {
        let rejected = if ty == ResourceType::Listener { refused.iter().map(rejection).collect() } else { Vec::new() };
        let status = TypeStatus { subscribed: true, version: given.version_of(ty), rejected, ..TypeStatus::default() };
        (ty, status)
    };
    SessionStatus { types: ResourceType::ALL.into_iter().map(of).collect() }
}

#[test]
fn a_last_good_state_is_given_at_once_and_is_the_controllers_word_only_when_it_has_spoken() {
    let mut relay = Relay::new(found(100), Awaited::default());
    let term = Term { confirmed: in_seconds(-9), until: in_seconds(100) };
    assert_eq!(relay.step(&seen()).configuration, Configuration::LastGood(term));
    assert_eq!(relay.given.as_ref().unwrap().len(), 4, "with the pod's secrets");
    let status = answered(&relay, &[]);
    let held = Seen { connection: connected(false), status: status.clone(), ..seen() };
    let followed = relay.step(&held);
    assert_eq!(followed.configuration, Configuration::LastGood(term), "connected is not confirmed");
    assert_eq!(followed.good, None);
    let followed = relay.step(&Seen { connection: connected(true), status, ..seen() });
    assert_eq!(followed.configuration, Configuration::Told);
    assert_eq!(*followed.good.unwrap().copy, *copy("1"));
    let lost = Seen { now: in_seconds(5000), ..seen() };
    let followed = relay.step(&lost);
    assert_eq!(followed.configuration, Configuration::Told, "the limit is for what was never confirmed");
    assert_eq!(followed.good, None);
    assert_eq!(relay.given.as_ref().unwrap().len(), 4);
}

#[test]
fn at_its_end_a_last_good_state_is_taken_from_envoy_and_the_controller_does_not_wait_for_answers() {
    let mut relay = Relay::new(found(100), Awaited::default());
    relay.step(&seen());
    let late = Seen { now: in_seconds(100), ..seen() };
    let followed = relay.step(&late);
    assert!(matches!(followed.configuration, Configuration::Ended(_)));
    assert!(relay.given.as_ref().unwrap().is_empty());
    assert_eq!(followed.answers.of(ResourceType::Listener).version, copy("1").version_of(ResourceType::Listener));
    let renewed = Seen { workload: Some(workload(9000)), ..late };
    assert!(
        matches!(relay.step(&renewed).configuration, Configuration::Ended(_)),
        "a certificate is not a confirmation"
    );
    let back = Seen { connection: connected(true), ..renewed };
    assert_eq!(relay.step(&back).configuration, Configuration::Told);
    assert_eq!(relay.given.as_ref().unwrap().len(), 4);
}

#[test]
fn the_certificate_may_end_the_use_earlier_and_a_renewed_one_does_not() {
    let mut relay = Relay::new(found(5000), Awaited::default());
    let until = |configuration| match configuration {
        Configuration::LastGood(term) => term.until,
        other => panic!("{other:?}"),
    };
    assert_eq!(until(relay.step(&seen()).configuration), in_seconds(1000));
    let renewed = Seen { workload: Some(workload(9000)), ..seen() };
    assert_eq!(until(relay.step(&renewed).configuration), in_seconds(5000));
}

#[test]
fn only_what_envoy_has_answered_for_is_kept_and_its_refusals_with_it() {
    let mut relay = Relay::new(Found::Nothing, Awaited::default());
    let fresh = Seen { connection: connected(true), ..seen() };
    let followed = relay.step(&fresh);
    assert_eq!((followed.configuration, followed.good), (Configuration::Told, None));
    let status = answered(&relay, &[]);
    assert!(relay.step(&Seen { status: status.clone(), connection: connected(true), ..seen() }).good.is_some());
    let next = Seen { copy: Some(copy("2")), status, connection: connected(true), ..seen() };
    assert_eq!(relay.step(&next).good, None, "Envoy has not answered for this yet");
    let status = answered(&relay, &["inbound-listener"]);
    let kept = relay.step(&Seen { status, ..next }).good.unwrap();
    assert_eq!(*kept.copy, *copy("2"));
    assert_eq!((kept.refusals.len(), kept.refusals[0].name.as_str()), (1, "inbound-listener"));
    assert_eq!(
        kept.refusals[0].good.as_deref(),
        copy("1").get(ResourceType::Listener, "inbound-listener").map(|r| &**r)
    );
    let mut restored =
        Relay::new(Found::Usable(Usable { content: kept, confirmed: now(), limit: in_seconds(9) }), Awaited::default());
    restored.step(&Seen { copy: Some(copy("2")), ..seen() });
    let given = restored.given.unwrap();
    assert_eq!(
        given.get(ResourceType::Listener, "inbound-listener"),
        copy("1").get(ResourceType::Listener, "inbound-listener")
    );
    assert_eq!(
        given.get(ResourceType::Listener, "outbound-listener"),
        copy("2").get(ResourceType::Listener, "outbound-listener")
    );
}

#[test]
fn a_pod_whose_listener_was_never_accepted_has_no_good_state() {
    let mut relay = Relay::new(Found::Nothing, Awaited::default());
    relay.step(&Seen { connection: connected(true), ..seen() });
    let status = answered(&relay, &["inbound-listener"]);
    assert_eq!(relay.step(&Seen { connection: connected(true), status, ..seen() }).good, None);
}
