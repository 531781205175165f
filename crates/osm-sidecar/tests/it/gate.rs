//! When the gate opens, and what it says before.

use axum::http::StatusCode;
use osm_runtime::http::{Limits, get_tcp};
use osm_xds::ResourceType;

use crate::lab::{DEADLINE, Lab, text, until};
use crate::resources::{complete, with_a_bad_listener, with_another_route};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_gate_opens_when_envoy_has_acknowledged_all_of_it_and_not_before() {
    let lab = Lab::start(|_| None).await;
    lab.until_it_waits_for("has not sent this pod's configuration yet");
    let mut partial = complete(lab.ports);
    partial.remove(ResourceType::Listener, "inbound-listener");
    lab.controller.tell(partial);
    lab.until_it_waits_for("the controller has not sent inbound-listener");
    lab.controller.tell(complete(lab.ports));
    lab.until_programmed();
    assert_eq!(lab.ready().await.1, "programmed\n");
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
    until(DEADLINE, async || lab.controller.is_settled());

    let startup = lab.startup().await;
    let steps =
        ["agentStarted", "envoyStarted", "identityIssued", "controllerConnected", "firstResources", "programmed"];
    let times: Vec<i64> = steps.iter().map(|step| startup[step].as_i64().unwrap_or_else(|| panic!("{step}"))).collect();
    assert!(times.iter().all(|time| times[0] <= *time && *time <= times[5]), "{startup}");
    for kind in ["cluster", "endpoint", "listener", "route", "secret"] {
        assert!(startup["acknowledged"][kind].as_i64().is_some_and(|time| time <= times[5]), "{kind}: {startup}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_update_takes_effect_and_the_gate_stays_open() {
    let lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    lab.controller.tell(with_another_route(lab.ports));
    until(DEADLINE, async || {
        assert!(lab.ready().await.0);
        let dump = get_tcp(lab.admin, "/config_dump", Limits::default()).await.unwrap();
        text(&dump).contains("\"other\"")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rejected_listener_is_told_in_envoys_words_to_both_sides() {
    let lab = Lab::start(|ports| Some(with_a_bad_listener(ports))).await;
    lab.until_it_waits_for("Envoy rejected listener inbound-listener");
    let (_, why) = lab.ready().await;
    assert!(why.contains("osm.no_such_filter"), "{why}");
    assert!(!lab.ready().await.0);
    let said = until(DEADLINE, async || lab.controller.rejections().first().cloned());
    assert!(said.contains("osm.no_such_filter"), "{said}");
    lab.controller.tell(complete(lab.ports));
    lab.until_programmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rejection_later_on_keeps_what_works() {
    let lab = Lab::start(|ports| Some(complete(ports))).await;
    lab.until_programmed();
    lab.controller.tell(with_a_bad_listener(lab.ports));
    until(DEADLINE, async || {
        let rejected = lab.startup().await["rejected"][0]["message"].to_string();
        rejected.contains("osm.no_such_filter")
    });
    assert!(lab.ready().await.0);
    assert_eq!(lab.request("/").await.as_deref(), Ok("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_certificate_names_the_token_and_is_asked_for_again() {
    let (controller, ports) = Lab::prepare(|ports| Some(complete(ports))).await;
    *controller.certificates.refusal.lock().unwrap() = Some((StatusCode::FORBIDDEN, "this pod is not in the mesh"));
    let lab = Lab::start_beside(controller, ports, |_| ()).await;
    lab.until_it_waits_for("(403): this pod is not in the mesh");
    let (_, why) = lab.ready().await;
    assert!(why.contains(r#""owner":"service-account-token""#), "{why}");
    *lab.controller.certificates.refusal.lock().unwrap() = None;
    lab.until_programmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_is_not_accepted_is_told_and_read_again() {
    let (controller, ports) = Lab::prepare(|ports| Some(complete(ports))).await;
    let lab = Lab::start_beside(controller, ports, |config| {
        std::fs::write(&config.controller.token_file, "an-old-token").unwrap();
    })
    .await;
    lab.until_it_waits_for("does not accept the pod's token (401): this token is not known");
    std::fs::write(lab.token_file(), crate::controller::TOKEN).unwrap();
    lab.until_programmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_controller_that_is_not_there_yet_is_named_and_found_when_it_comes() {
    let (mut controller, ports) = Lab::prepare(|_| None).await;
    controller.stop().await;
    let address = controller.address;
    let mut lab = Lab::start_beside(controller, ports, |_| ()).await;
    lab.until_it_waits_for(&format!("cannot reach {address}"));
    lab.until_it_waits_for(&format!("no configuration: cannot reach {address}"));
    lab.controller.resume(Some(complete(ports))).await;
    lab.until_programmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_controller_of_another_authority_is_not_trusted() {
    let (controller, ports) = Lab::prepare(|ports| Some(complete(ports))).await;
    let other = osm_pki::Authority::generate(osm_runtime::clock::now(), "cluster.local").unwrap();
    let lab = Lab::start_beside(controller, ports, |config| {
        other.cert_pem().clone_into(&mut config.controller.root_ca);
    })
    .await;
    lab.until_it_waits_for(
        "its certificate must carry osm-controller.osm-system.svc and come from the mesh's authority",
    );
    assert_eq!(*lab.controller.certificates.issued.lock().unwrap(), 0);
}
