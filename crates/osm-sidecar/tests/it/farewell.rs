//! How the sidecar ends: told together with its application, by order, and when the controller says that the work is over.

use std::time::Duration;

use osm_ads::Notice;
use osm_sidecar::farewell::WithApplication;
use osm_sidecar::quit::QuitPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::Lab;
use crate::resources::complete;

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_serves_until_its_peers_have_let_go_and_its_application_has_ended() {
    let settings = |config: &mut osm_sidecar::Config| {
        let (withdrawal_limit, without_sockets) = (LONG, LONG);
        config.farewell.with_application = Some(WithApplication { grace: LONG, withdrawal_limit, without_sockets });
    };
    let mut lab = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    lab.until_programmed();
    lab.asked.cancel();
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
    lab.controller.notice.send_replace(Notice { is_withdrawn: true, is_application_over: false });
    assert!(!lab.agent.as_ref().unwrap().is_finished());
    lab.controller.notice.send_replace(Notice { is_withdrawn: true, is_application_over: true });
    lab.stop().await.unwrap();
    assert_eq!(lab.envoys(), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_word_from_the_controller_it_goes_when_the_limits_are_over() {
    let settings = |config: &mut osm_sidecar::Config| {
        let (withdrawal_limit, without_sockets) = (Duration::ZERO, LONG);
        let grace = Duration::from_secs(3);
        config.farewell.with_application = Some(WithApplication { grace, withdrawal_limit, without_sockets });
    };
    let mut lab = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    lab.until_programmed();
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_jobs_sidecar_ends_by_order_and_when_the_work_is_over() {
    let settings = |config: &mut osm_sidecar::Config| config.quit = QuitPolicy::Obey;
    let mut ordered = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    ordered.until_programmed();
    assert!(order(&ordered).await.starts_with("HTTP/1.1 200 OK"));
    ordered.agent.take().unwrap().await.unwrap().unwrap();

    let mut told = Lab::start_with(|ports| Some(complete(ports)), settings).await;
    told.until_programmed();
    told.controller.notice.send_replace(Notice { is_withdrawn: false, is_application_over: true });
    told.agent.take().unwrap().await.unwrap().unwrap();

    let other = Lab::start(|ports| Some(complete(ports))).await;
    other.until_programmed();
    assert!(order(&other).await.starts_with("HTTP/1.1 403"));
    other.controller.notice.send_replace(Notice { is_withdrawn: true, is_application_over: true });
    assert_eq!(other.request("/").await.as_deref(), Ok("hello"));
}

/// What a container of the pod is answered that orders the sidecar to quit.
async fn order(lab: &Lab) -> String {
    let mut stream = TcpStream::connect(lab.admin).await.unwrap();
    let request = "POST /quitquitquit HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
