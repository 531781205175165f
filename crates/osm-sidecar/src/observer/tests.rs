use super::*;
use crate::timeline::UnixMs;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn live(run: u64) -> Event {
    Event::Answer(Answer {
        run,
        state: "LIVE".into(),
        has_workers: true,
        listeners_active: 2,
        listeners_warming: 0,
        clusters_warming: 0,
        connections: 0,
    })
}

fn complete() -> Event {
    Event::Upstream(gate::Upstream { configuration: Configuration::Told, is_connected: true, obstacle: None })
}

fn started(events: Vec<(i64, Event)>) -> Observer {
    let mut observer = Observer::new(at(0));
    for (ms, event) in events {
        observer.take_in(event, at(ms));
    }
    observer
}

#[test]
fn a_start_is_told_step_by_step() {
    let observer = started(vec![
        (1, Event::Envoy(gate::Envoy::Running { run: 1, pid: 9 })),
        (2, Event::Acknowledged(Some(Acknowledged::default()))),
        (3, Event::Identity(gate::Identity::Held(at(1_000_000)))),
        (4, complete()),
        (5, live(1)),
    ]);
    let Status { gate, timeline, .. } = observer.status();
    assert!(gate.is_open(), "{gate}");
    assert_eq!(timeline.identity_issued, Some(UnixMs(3)));
    assert_eq!(
        timeline.acknowledged.get(&ResourceType::Listener),
        Some(&UnixMs(4)),
        "nothing counts before the copy is complete"
    );
    assert_eq!(timeline.programmed, Some(UnixMs(5)));
}

#[test]
fn a_certificate_expires_without_anybody_saying_so() {
    let mut observer = started(vec![
        (1, Event::Envoy(gate::Envoy::Running { run: 1, pid: 9 })),
        (1, Event::Acknowledged(Some(Acknowledged::default()))),
        (1, Event::Identity(gate::Identity::Held(at(100)))),
        (1, complete()),
        (1, live(1)),
    ]);
    assert!(observer.status().gate.is_open());
    observer.take_in(Event::Tick, at(100));
    assert!(!observer.status().gate.is_open());
}

#[test]
fn a_rejection_after_the_start_is_told_while_the_gate_stays_open() {
    let mut observer = started(vec![
        (1, Event::Envoy(gate::Envoy::Running { run: 1, pid: 9 })),
        (1, Event::Acknowledged(Some(Acknowledged::default()))),
        (1, Event::Identity(gate::Identity::Held(at(100)))),
        (1, complete()),
        (1, live(1)),
    ]);
    let rejected = vec![Rejected { kind: ResourceType::Route, names: vec!["r".into()], message: "bad regex".into() }];
    let session = Acknowledged { rejected: rejected.clone(), ..Acknowledged::default() };
    observer.take_in(Event::Acknowledged(Some(session)), at(2));
    assert!(observer.status().gate.is_open());
    assert_eq!(observer.status().rejected, rejected);
}

#[test]
fn a_start_from_the_last_good_state_is_not_told_as_if_the_controller_had_spoken() {
    let term = gate::Term { confirmed: at(0), until: at(1_000_000) };
    let restored = gate::Upstream { configuration: Configuration::LastGood(term), is_connected: false, obstacle: None };
    let mut observer = started(vec![
        (1, Event::Envoy(gate::Envoy::Running { run: 1, pid: 9 })),
        (2, Event::Identity(gate::Identity::Restored(at(1_000_000)))),
        (3, Event::Upstream(restored.clone())),
        (4, Event::Acknowledged(Some(Acknowledged::default()))),
        (5, live(1)),
    ]);
    let Status { gate, timeline, upstream, .. } = observer.status();
    assert!(gate.is_open(), "{gate}");
    assert_eq!(*upstream, restored);
    assert_eq!((timeline.last_good_restored, timeline.programmed), (Some(UnixMs(3)), Some(UnixMs(5))));
    assert_eq!((timeline.identity_issued, timeline.first_resources, timeline.controller_connected), (None, None, None));
    observer.take_in(Event::Identity(gate::Identity::Held(at(2_000_000))), at(6));
    observer.take_in(complete(), at(7));
    let timeline = &observer.status().timeline;
    assert_eq!((timeline.identity_issued, timeline.first_resources), (Some(UnixMs(6)), Some(UnixMs(7))));
}

#[test]
fn what_the_controller_says_is_in_the_way_counts_while_the_stream_is_open() {
    let told = || Obstacle { reason: osm_startup::Reason::PodUnknown, what: "no such pod".into() };
    let upstream = |is_connected| {
        Event::Upstream(gate::Upstream { configuration: Configuration::default(), is_connected, obstacle: None })
    };
    let reason = |observer: &Observer| {
        let missing = observer.status().gate.missing();
        missing.iter().find(|missing| missing.cause == gate::Cause::Configuration).map(|missing| missing.reason)
    };
    let mut observer = started(vec![(1, upstream(true))]);
    assert_eq!(reason(&observer), Some(osm_startup::Reason::ConfigurationPending));
    observer.take_in(Event::Told(Some(told())), at(2));
    assert_eq!(reason(&observer), Some(osm_startup::Reason::PodUnknown));
    observer.take_in(upstream(false), at(3));
    assert_eq!(reason(&observer), Some(osm_startup::Reason::ConfigurationPending));
    observer.take_in(upstream(true), at(4));
    observer.take_in(Event::Told(None), at(5));
    assert_eq!(reason(&observer), Some(osm_startup::Reason::ConfigurationPending));
}

#[test]
fn the_first_connection_is_noted_once() {
    let Event::Answer(answer) = live(1) else { panic!("it is an answer") };
    let with = |connections| Event::Answer(Answer { connections, ..answer.clone() });
    let observer = started(vec![(1, with(0)), (2, with(3)), (3, with(9))]);
    assert_eq!(observer.status().timeline.first_connection, Some(UnixMs(2)));
}
