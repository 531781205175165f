use osm_xds::{Resource, ResourceType};

use super::*;
use crate::scratch::Scratch;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

pub(super) fn pod() -> Pod {
    Pod { name: "c-0".into(), namespace: "shop".into(), uid: "u".into(), service_account: "client".into() }
}

pub(super) fn content(body: &[u8]) -> Content {
    let workload = Workload {
        key_pem: "KEY".to_owned().into(),
        chain_pem: "CHAIN".into(),
        bundle_pem: "ROOTS".into(),
        issued: at(-10),
        not_after: at(1000),
    };
    let resource = |name: &str| Arc::new(Resource::new(name, body));
    let copy = ResourceType::OF_CONTROLLER.into_iter().map(|ty| (ty, resource("a"))).collect();
    let refusal = |name: &str, good| Refusal {
        ty: ResourceType::Listener,
        name: name.into(),
        version: "2".into(),
        message: "no such filter".into(),
        good,
    };
    let refusals = vec![refusal("a", Some(resource("a"))), refusal("b", None)];
    Content { workload: Arc::new(workload), copy: Arc::new(copy), refusals }
}

fn state() -> LastGoodState {
    let holder = Holder { pod: pod(), token_subject: "system:serviceaccount:shop:client".into() };
    LastGoodState { holder, confirmed: at(0), content: Arc::new(content(b"body")) }
}

#[test]
fn what_is_written_is_read() {
    let bytes = encode(&state()).unwrap();
    assert_eq!(decode(&bytes).unwrap(), state());
    assert_eq!(bytes.len(), bytes.capacity(), "no copy of the key was left behind by growing");
}

#[test]
fn anything_else_is_refused_and_never_a_panic() {
    let bytes = encode(&state()).unwrap();
    let refused = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert_eq!(refused(b"{}"), Unreadable::Foreign);
    for length in 0..bytes.len() {
        refused(&bytes[..length]);
    }
    for position in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 0x10;
        refused(&damaged);
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(matches!(refused(&longer), Unreadable::Length { .. }));
    let mut next = bytes.to_vec();
    next[15] += 1;
    assert_eq!(refused(&next).to_string(), "it has format 2, and this release reads format 1");
    let mut secret = state();
    let mut copy = (*secret.content.copy).clone();
    copy.insert(ResourceType::Secret, Resource::new("s", b"".as_slice()));
    secret.content = Arc::new(Content { copy: Arc::new(copy), ..(*secret.content).clone() });
    let error = refused(&encode(&secret).unwrap()).to_string();
    assert!(error.contains("Secret"), "the controller has none to tell: {error}");
}

#[test]
fn the_size_is_limited() {
    let large = vec![0; SIZE_LIMIT_BYTES / 4];
    let state = LastGoodState { content: Arc::new(content(&large)), ..state() };
    let TooLarge(bytes) = encode(&state).unwrap_err();
    assert!(bytes > SIZE_LIMIT_BYTES);
}

#[test]
fn a_state_is_for_its_holder_and_for_its_time() {
    let usable = |holder: &Holder, second| state().usable(holder, DAY, at(second)).map_err(|why| why.to_string());
    let holder = state().holder;
    let Usable { confirmed, limit, .. } = usable(&holder, 60).unwrap();
    assert_eq!((confirmed, limit), (at(0), at(24 * 60 * 60)));
    let check = |change: &dyn Fn(&mut Holder), second, words: &str| {
        let mut other = holder.clone();
        change(&mut other);
        let why = usable(&other, second).unwrap_err();
        assert!(why.starts_with(words), "{why}");
    };
    let pod = "it is of pod shop/c-0 with uid \"u\" and service account client";
    check(&|holder| holder.pod.name = "c-1".into(), 0, pod);
    check(&|holder| holder.pod.namespace = "bank".into(), 0, pod);
    check(&|holder| holder.pod.uid = "u2".into(), 0, pod);
    check(&|holder| holder.pod.service_account = "admin".into(), 0, pod);
    check(
        &|holder| holder.token_subject.clear(),
        0,
        "it was kept for the token of \"system:serviceaccount:shop:client\"",
    );
    check(&|_| (), 1000, "its certificate expired at 2030-03-17T18:03:20Z");
    check(&|_| (), -301, "it was confirmed at 2030-03-17T17:46:40Z, which is in the future");
    assert!(usable(&holder, -299).is_ok(), "clocks are not that exact");
    let short = state().usable(&holder, Duration::from_secs(90), at(90)).unwrap_err().to_string();
    assert_eq!(
        short,
        "the controller last confirmed it at 2030-03-17T17:46:40Z, 1m 30s ago, and it may be used for 1m 30s \
         (OSM_LAST_GOOD_SECONDS)"
    );
    assert!(state().usable(&holder, Duration::MAX, at(999)).is_ok());
}

#[test]
fn a_directory_without_one_has_nothing_and_nothing_of_the_key_is_printed() {
    let scratch = Scratch::new("find");
    let dir = StateDir::prepare(scratch.path()).unwrap();
    let found = || find(&dir, &pod(), Path::new("/nowhere"), DAY, at(1));
    assert_eq!(found(), Found::Nothing);
    dir.write(&dir.last_good(), b"{}").unwrap();
    let Found::Unusable(why) = found() else { panic!("it is foreign") };
    assert!(why.ends_with("last-good.state cannot be read: it is not a last good state"), "{why}");
    let mut own = state();
    own.holder.token_subject.clear();
    dir.write(&dir.last_good(), &encode(&own).unwrap()).unwrap();
    let found = found();
    assert!(matches!(found, Found::Usable(_)), "{found:?}");
    assert!(!format!("{found:?}").contains("KEY"));
}
