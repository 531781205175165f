use super::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;

fn pod(uid: &str, written: Option<&PodCondition>) -> k8s::Pod {
    let conditions = written.map(|condition| vec![on_wire(condition, Timestamp::UNIX_EPOCH)]);
    k8s::Pod {
        metadata: k8s::ObjectMeta {
            name: Some("server".into()),
            namespace: Some("shop".into()),
            uid: Some(uid.into()),
            ..Default::default()
        },
        status: Some(k8s::PodStatus { conditions, ..Default::default() }),
        ..Default::default()
    }
}

fn condition(type_: &'static str, is_true: bool, message: &str) -> PodCondition {
    PodCondition { type_, is_true, reason: "Because", message: message.into() }
}

fn due(conditions: &PodConditions) -> Vec<(String, String, String)> {
    let due = conditions.lock().take_due();
    let due = due.into_iter().flat_map(|(_, conditions)| conditions);
    due.map(|condition| (condition.type_, condition.status, condition.message.unwrap_or_default())).collect()
}

#[test]
fn the_last_of_each_type_goes_in_one_write_and_nothing_goes_twice() {
    let conditions = PodConditions::default();
    let pod = pod("1", None);
    conditions.set(&pod, condition("a", false, "waits"));
    conditions.set(&pod, condition("a", true, "done"));
    conditions.set(&pod, condition("b", false, "waits"));
    let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(due(&conditions), [text("a", "True", "done"), text("b", "False", "waits")]);
    conditions.set(&pod, condition("a", true, "done"));
    assert_eq!(due(&conditions), []);
    conditions.set(&pod, condition("b", false, "waits for something else"));
    assert_eq!(due(&conditions), [text("b", "False", "waits for something else")]);
}

#[test]
fn what_an_earlier_process_wrote_is_not_written_again() {
    let conditions = PodConditions::default();
    let written = condition("a", true, "done");
    let pod = pod("1", Some(&written));
    conditions.set(&pod, written);
    assert_eq!(due(&conditions), []);
    conditions.set(&pod, condition("a", false, "not any more"));
    assert_eq!(due(&conditions).len(), 1);
    // The World is older than what this process wrote.
    conditions.set(&pod, condition("a", true, "done"));
    assert_eq!(due(&conditions).len(), 1);
}

#[test]
fn a_change_of_words_alone_keeps_the_time() {
    let mut state = State::default();
    let key = || (NamespacedName::new("shop", "server"), "1".to_owned());
    let at = |second| Timestamp::from_second(second).unwrap();
    for (second, is_true, message) in [(1, false, "x"), (2, false, "y"), (3, true, "z")] {
        state.set(key(), None, condition("a", is_true, message), at(second));
        let (_, written) = state.take_due().unwrap();
        let since = written[0].last_transition_time.as_ref().unwrap().0;
        assert_eq!(since, at(if is_true { 3 } else { 1 }));
    }
}

#[test]
fn pods_that_went_are_forgotten() {
    let conditions = PodConditions::default();
    conditions.set(&pod("1", None), condition("a", true, "x"));
    conditions.set(&pod("2", None), condition("a", true, "x"));
    conditions.keep(|name, uid| name.name == "server" && uid == "2");
    assert_eq!(conditions.lock().pods.len(), 1);
}

#[tokio::test]
async fn what_the_runner_refuses_is_tried_again() {
    let folder = std::env::temp_dir().join(format!("osm-conditions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("control.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let conditions = PodConditions::default();
    let stop = CancellationToken::new();
    let writer = tokio::spawn(conditions.clone().run(Sink::Runner(socket), stop.clone()));
    conditions.set(&pod("1", None), condition("a", true, "done"));
    for answer in [r#"{"answer":"refused","message":"not now","hint":""}"#, r#"{"answer":"conditions-set"}"#] {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let asked: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(asked["pod"], json!({ "namespace": "shop", "name": "server" }));
        assert_eq!(asked["conditions"][0]["status"], "True");
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
    assert_eq!(due(&conditions), [], "it was written when it was accepted");
    stop.cancel();
    writer.await.unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
