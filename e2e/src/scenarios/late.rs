//! What a pod needs comes late: its certificate, or the policies that say what it may. Nothing starts half, or open.

use anyhow::{Context, Result, ensure};

use super::manifests::{SMI_MODE, grant, once_pod, service_account, shop};
use super::open;
use super::outage::{IGNORANT_CONTROLLER, replace_controller, restore_controller, start_after};
use crate::Choice;
use crate::lab::{Lab, Place, PodStatus, wait_for};

pub(super) fn nothing_starts_half(choice: &Choice) -> Result<String> {
    let lab = open(choice, &[&shop(), SMI_MODE, &grant("client", "server")].concat())?;
    if lab.place() == Place::Cluster {
        let silent = controller_silent(&lab)?;
        return Ok(format!("without a certificate: {silent}; served when it came"));
    }
    let certificate = certificate_late(&lab)?;
    let policies = policies_late(&lab)?;
    Ok(format!("without a certificate: {certificate}; without policies: {policies}; served when they came"))
}

/// The controller takes the question for a certificate and does not answer, which is as much as can be done to it in a
/// cluster.
fn controller_silent(lab: &Lab) -> Result<String> {
    start_after(lab, "silent", &once_pod("silent", ""), || lab.signal("osm-controller", "STOP"))?;
    let said = waits_for(lab, "silent", "controller-silent")?;
    lab.signal("osm-controller", "CONT")?;
    is_served(lab, "silent")?;
    Ok(said)
}

/// The controller signs nothing for a pod that it does not know.
fn certificate_late(lab: &Lab) -> Result<String> {
    lab.signal("osm-controller", "STOP")?;
    lab.apply_file("late.yaml", &once_pod("certificate-late", ""))?;
    waits_for(lab, "certificate-late", "controller-silent")?;
    let object = format!("/run/osm-local/{}/objects/pod.shop.certificate-late.json", lab.name());
    let hidden = lab.path("certificate-late.json").display().to_string();
    lab.node(&["mv", &object, &hidden])?.success().context("hiding the pod from the controller")?;
    lab.signal("osm-controller", "CONT")?;
    let said = waits_for(lab, "certificate-late", "pod-unknown")?;
    lab.node(&["mv", &hidden, &object])?.success().context("letting the controller know the pod")?;
    is_served(lab, "certificate-late")?;
    Ok(said)
}

/// A controller that has not read the policies yet would have to guess, and a mesh without settings is open.
fn policies_late(lab: &Lab) -> Result<String> {
    replace_controller(lab, IGNORANT_CONTROLLER)?;
    // One of them may ask the server, and one may not.
    let other = once_pod("other", "").replace("serviceAccountName: client", "serviceAccountName: other");
    lab.apply(&service_account("shop", "other"))?;
    lab.apply_file("late.yaml", &(once_pod("policies-late", "") + &other))?;
    let said = waits_for(lab, "policies-late", "controller-out-of-sync")?;
    waits_for(lab, "other", "controller-out-of-sync")?;
    restore_controller(lab)?;
    is_served(lab, "policies-late")?;
    let other = lab.wait_for("shop/other", "over", PodStatus::is_over)?;
    let said_by_other = lab.logs("shop/other", "once")?;
    ensure!(said_by_other.contains("status 403"), "who was granted nothing ended {}: {said_by_other}", other.phase);
    Ok(said)
}

/// Waits until a pod is held for this reason, and makes sure that its application has got nowhere; the words.
fn waits_for(lab: &Lab, pod: &str, reason: &str) -> Result<String> {
    let full_name = format!("shop/{pod}");
    let what = wait_for(&format!("{pod} says {reason}"), || {
        let startup = lab.startup_of(&full_name)?;
        let first = startup.missing.first().context("it waits for nothing")?;
        ensure!(first.reason == reason, "it says {first:?}");
        Ok(first.what.clone())
    })?;
    let status = lab.wait_for(&full_name, "there", |_| true)?;
    ensure!(status.exit_code("once").is_none(), "its application did not wait: {}", lab.logs(&full_name, "once")?);
    ensure!(!status.ready, "it is ready: {status:?}");
    Ok(what)
}

fn is_served(lab: &Lab, pod: &str) -> Result<()> {
    let full_name = format!("shop/{pod}");
    let status = lab.wait_for(&full_name, "over", PodStatus::is_over)?;
    ensure!(status.exit_code("once") == Some(0), "{pod} was not served: {}", lab.logs(&full_name, "once")?);
    Ok(())
}
