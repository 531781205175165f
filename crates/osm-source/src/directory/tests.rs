use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use osm_api::{Kind, ObjectKey, World};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use super::*;

/// A directory of one test, and the source that watches `m` in it.
struct Lab {
    root: PathBuf,
    events: Receiver<Event>,
    world: World,
    problems: Vec<(String, Vec<String>)>,
    in_sync: usize,
    _running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Lab {
    fn new(prepare: impl Fn(&Path)) -> Lab {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("osm-source-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        prepare(&root);
        let (sender, events) = channel(4);
        let _running = tokio::spawn(run(vec![root.join("m")], sender, CancellationToken::new()));
        Lab { root, events, world: World::default(), problems: Vec::new(), in_sync: 0, _running }
    }

    /// Takes in events until the condition holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Lab) -> bool) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            let event = timeout(Duration::from_secs(10), self.events.recv()).await;
            match event.unwrap_or_else(|_| panic!("{what} never came: {:?}", self.world.keys())).unwrap() {
                Event::Changes(changes) => {
                    for change in changes {
                        self.world.apply(change);
                    }
                }
                Event::Problems { file, problems } => {
                    let name = file.strip_prefix(&*self.root.to_string_lossy()).unwrap().to_owned();
                    self.problems.push((name, problems.iter().map(|p| p.message.clone()).collect()));
                }
                Event::InSync => self.in_sync += 1,
            }
        }
        start.elapsed()
    }

    async fn until_in_sync(&mut self) {
        self.until("sync", |lab| lab.in_sync == 1).await;
    }

    async fn until_services(&mut self, names: &[&str]) -> Duration {
        let keys: Vec<ObjectKey> = names.iter().map(|n| ObjectKey::new(Kind::Service, "shop", n)).collect();
        self.until(&format!("{names:?}"), |lab| lab.world.keys() == keys).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n")
}

fn with_server(root: &Path) {
    fs::create_dir(root.join("m")).unwrap();
    fs::write(root.join("m/server.yaml"), service("server")).unwrap();
}

#[tokio::test]
async fn what_exists_comes_before_the_sync_and_what_changes_after_it() {
    let mut lab = Lab::new(with_server);
    lab.until_in_sync().await;
    assert_eq!(lab.world.keys().len(), 1);
    fs::write(lab.path("m/client.json"), serde_text("client")).unwrap();
    lab.until_services(&["client", "server"]).await;
    fs::remove_file(lab.path("m/server.yaml")).unwrap();
    lab.until_services(&["client"]).await;
    assert_eq!((lab.in_sync, lab.problems.len()), (1, 0));
}

fn serde_text(name: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"shop"}}}}"#)
}

#[tokio::test]
async fn a_file_moved_into_place_is_out_within_20_ms() {
    let mut lab = Lab::new(with_server);
    lab.until_in_sync().await;
    let mut fastest = Duration::MAX;
    for (index, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        fs::write(lab.path("m/.new.yaml"), service(name)).unwrap();
        fs::rename(lab.path("m/.new.yaml"), lab.path("m/server.yaml")).unwrap();
        fastest = fastest.min(lab.until_services(&[name]).await);
        assert_eq!(lab.world.keys().len(), 1, "{index}");
    }
    // The machine may be busy; it is not busy all five times.
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}

#[tokio::test]
async fn a_directory_that_is_missing_at_the_start_is_waited_for() {
    let mut lab = Lab::new(|_| {});
    lab.until("the problem", |lab| lab.problems.len() == 1).await;
    assert_eq!(lab.problems[0].0, "/m");
    assert_eq!(lab.in_sync, 0);
    with_server(&lab.root);
    lab.until_services(&["server"]).await;
    lab.until_in_sync().await;
    assert_eq!(lab.problems.last().unwrap(), &("/m".to_owned(), vec![]));
}

#[tokio::test]
async fn a_directory_that_is_deleted_and_made_again_is_watched_again() {
    let mut lab = Lab::new(with_server);
    lab.until_in_sync().await;
    for round in ["one", "two"] {
        fs::remove_dir_all(lab.path("m")).unwrap();
        lab.until_services(&[]).await;
        fs::create_dir(lab.path("m")).unwrap();
        fs::write(lab.path("m/x.yaml"), service(round)).unwrap();
        lab.until_services(&[round]).await;
        fs::write(lab.path("m/y.yaml"), service("zzz")).unwrap();
        lab.until_services(&[round, "zzz"]).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_moved_away_keeps_its_objects_until_another_takes_its_place() {
    let mut lab = Lab::new(with_server);
    lab.until_in_sync().await;
    fs::rename(lab.path("m"), lab.path("old")).unwrap();
    lab.until("the problem", |lab| lab.problems.len() == 1).await;
    assert_eq!(lab.world.keys().len(), 1);
    fs::create_dir(lab.path("new")).unwrap();
    fs::write(lab.path("new/other.yaml"), service("other")).unwrap();
    fs::rename(lab.path("new"), lab.path("m")).unwrap();
    lab.until_services(&["other"]).await;
}

#[tokio::test]
async fn files_that_are_no_text_or_no_yaml_are_problems_and_keep_what_they_held() {
    let mut lab = Lab::new(with_server);
    lab.until_in_sync().await;
    fs::write(lab.path("m/server.yaml"), b"\xff\xfe").unwrap();
    lab.until("a problem", |lab| lab.problems.len() == 1).await;
    assert!(lab.problems[0].1[0].contains("UTF-8"), "{:?}", lab.problems);
    fs::write(lab.path("m/server.yaml"), "a: [").unwrap();
    lab.until("another problem", |lab| lab.problems.len() == 2).await;
    assert!(lab.problems[1].1[0].contains("not YAML"), "{:?}", lab.problems);
    assert_eq!(lab.world.keys().len(), 1);
    fs::create_dir(lab.path("m/folder.yaml")).unwrap();
    fs::write(lab.path("m/server.yaml"), service("back")).unwrap();
    lab.until_services(&["back"]).await;
    assert_eq!(lab.problems.last().unwrap(), &("/m/server.yaml".to_owned(), vec![]));
}

#[tokio::test]
async fn links_and_volumes_that_are_swapped_at_once_are_read() {
    let mut lab = Lab::new(|root| {
        for version in ["1", "2"] {
            fs::create_dir_all(root.join("m").join(format!("..{version}"))).unwrap();
            fs::write(root.join(format!("m/..{version}/s.yaml")), service(&format!("v{version}"))).unwrap();
        }
        std::os::unix::fs::symlink("..1", root.join("m/..data")).unwrap();
        std::os::unix::fs::symlink("..data/s.yaml", root.join("m/s.yaml")).unwrap();
    });
    lab.until_services(&["v1"]).await;
    std::os::unix::fs::symlink("..2", lab.path("m/..tmp")).unwrap();
    fs::rename(lab.path("m/..tmp"), lab.path("m/..data")).unwrap();
    lab.until_services(&["v2"]).await;
    fs::write(lab.path("elsewhere"), service("linked")).unwrap();
    fs::hard_link(lab.path("elsewhere"), lab.path("m/linked.yaml")).unwrap();
    lab.until_services(&["linked", "v2"]).await;
}

#[tokio::test]
async fn nothing_is_lost_between_first_scan_and_watch_and_by_a_slow_reader() {
    let mut lab = Lab::new(with_server);
    let expected: Vec<String> = (0..300).map(|n| format!("s{n:03}")).collect();
    for name in &expected {
        fs::write(lab.path(&format!("m/{name}.yaml")), service(name)).unwrap();
    }
    fs::remove_file(lab.path("m/server.yaml")).unwrap();
    lab.until_services(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_file_becomes_readable_by_its_mode() {
    let mut lab = Lab::new(|root| {
        with_server(root);
        fs::set_permissions(root.join("m/server.yaml"), fs::Permissions::from_mode(0o000)).unwrap();
    });
    lab.until_in_sync().await;
    fs::set_permissions(lab.path("m/server.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    // Root reads it anyway; anybody else sees it come.
    lab.until_services(&["server"]).await;
}
