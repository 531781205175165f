use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::*;
use crate::last_good::tests::{content, pod};
use crate::last_good::{Found, find};
use crate::scratch::Scratch;

fn saver(dir: &StateDir) -> Saver {
    let (token_file, max_age) = ("/nowhere".into(), Duration::from_secs(3600));
    let good = watch::channel(None).1;
    Saver { state_dir: dir.clone(), pod: pod(), token_file, max_age, good, on_disk: None }
}

fn wanted(content: Content, ceased: Option<Timestamp>) -> Wanted {
    Wanted { content: Arc::new(content), ceased }
}

fn state(content: Content) -> LastGoodState {
    let holder = Holder { pod: pod(), token_subject: String::new() };
    LastGoodState { holder, confirmed: clock::now(), content: Arc::new(content) }
}

#[test]
fn a_change_is_written_soon_a_storm_of_large_ones_once_a_second_and_what_stays_now_and_then() {
    let scratch = Scratch::new("due");
    let mut saver = saver(&StateDir::prepare(scratch.path()).unwrap());
    let now = clock::monotonic();
    let took = |took| Some(Attempt { at: now, took, has_failed: false });
    let went = |has_failed| Some(Attempt { at: now, took: Duration::from_millis(2), has_failed });
    let change = wanted(content(b"1"), None);
    assert!(saver.due(&change, None).unwrap() <= clock::monotonic());
    assert_eq!(saver.due(&change, went(false)), Some(now + Duration::from_millis(40)));
    assert_eq!(saver.due(&change, took(Duration::from_secs(3))), Some(now + PAUSE_LIMIT));
    assert_eq!(saver.due(&change, went(true)), Some(now + RETRY));
    saver.on_disk = Some(Arc::new(content(b"1")));
    assert_eq!(saver.due(&change, went(false)), Some(now + REFRESH));
    saver.max_age = Duration::from_secs(60);
    assert_eq!(saver.due(&change, went(false)), Some(now + Duration::from_secs(15)), "often enough for its age");
    let ceased = wanted(content(b"1"), Some(clock::now()));
    assert_eq!(saver.due(&ceased, went(false)), None, "nobody stands by it any more");
    assert_eq!(
        saver.due(&wanted(content(b"2"), Some(clock::now())), went(false)),
        Some(now + Duration::from_millis(40))
    );
}

#[tokio::test]
async fn what_is_in_force_at_the_end_is_written_though_the_controller_has_gone() {
    let scratch = Scratch::new("end");
    let dir = StateDir::prepare(scratch.path()).unwrap();
    let (good, followed) = watch::channel(Some(Arc::new(content(b"1"))));
    let stop = CancellationToken::new();
    let running = tokio::spawn(Saver { good: followed, ..saver(&dir) }.run(stop.clone()));
    let body = || {
        let Found::Usable(usable) = find(&dir, &pod(), "/nowhere".as_ref(), Duration::from_secs(9), clock::now())
        else {
            return Vec::new();
        };
        usable.content.copy.iter().next().map(|(_, resource)| resource.body.to_vec()).unwrap_or_default()
    };
    while body() != b"1" {
        tokio::task::yield_now().await;
    }
    // Within the pause in which nothing is written, and then the stream ends.
    good.send_replace(Some(Arc::new(content(b"2"))));
    tokio::task::yield_now().await;
    good.send_replace(None);
    tokio::task::yield_now().await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(body(), b"2");
}

#[tokio::test]
async fn a_state_that_cannot_be_written_takes_the_outdated_one_with_it() {
    let scratch = Scratch::new("unwritable");
    let dir = StateDir::prepare(scratch.path()).unwrap();
    let mut saver = saver(&dir);
    let first = wanted(content(b"1"), None);
    assert!(saver.keep(&first, false).await);
    // Nothing can take this place.
    let obstacle = dir.last_good().with_extension("fresh");
    std::fs::create_dir(&obstacle).unwrap();
    assert!(!saver.keep(&first, false).await);
    assert!(dir.last_good().exists(), "it is only not confirmed anew");
    assert!(!saver.keep(&wanted(content(b"2"), None), false).await);
    assert!(!dir.last_good().exists(), "it may grant what is revoked");
    std::fs::remove_dir(&obstacle).unwrap();
    assert!(saver.keep(&wanted(content(b"2"), None), true).await);
}

#[test]
fn on_a_full_disk_the_outdated_state_makes_room_and_a_part_of_one_is_never_left() {
    if !geteuid().is_root() {
        return; // Only root can mount a small disk.
    }
    let scratch = Scratch::new("full");
    let path = scratch.path().to_owned();
    let tried = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=0700")).unwrap();
        let dir = StateDir::prepare(&path).unwrap();
        // Four resources and one more in a refusal share this size.
        let of = |kilobytes: usize| state(content(&vec![7; kilobytes * 1024 / 5]));
        write(&dir, &of(100), true).unwrap();
        assert!(write(&dir, &of(200), false).is_err(), "two do not fit");
        assert!(dir.last_good().metadata().unwrap().len() < 110 * 1024, "what is not outdated is left");
        write(&dir, &of(200), true).unwrap();
        assert!(dir.last_good().metadata().unwrap().len() > 190 * 1024);
        let error = write(&dir, &of(300), true).unwrap_err();
        assert!(format!("{error:#}").contains("No space left on device"), "{error:#}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        write(&dir, &of(100), true).unwrap();
        assert_eq!(dir.last_good().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    });
    tried.join().unwrap();
}
