//! What the API server says of objects, in the words of a lab's status.

use anyhow::{Context, Result};
use serde_json::Value;

use super::status::{
    Condition, ContainerStatus, ControllerStatus, JobStatus, ObjectName, PodStatus, ServiceStatus, Status,
};

/// The status of a lab, from a list of pods, Jobs and services.
pub(super) fn status_of(list: &Value, control_plane: &str) -> Result<Status> {
    let items = list["items"].as_array().context("the API server's answer is not a list")?;
    let of_kind = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
    let controllers: Vec<PodStatus> = of_kind("Pod")
        .filter(|pod| {
            pod["metadata"]["namespace"] == control_plane && pod["metadata"]["labels"]["app"] == "osm-controller"
        })
        .map(pod)
        .collect();
    Ok(Status {
        controller: ControllerStatus {
            ready: !controllers.is_empty() && controllers.iter().all(|pod| pod.ready),
            restarts: controllers.iter().flat_map(|pod| &pod.containers).map(|container| container.restarts).sum(),
        },
        pods: of_kind("Pod").map(pod).collect(),
        jobs: of_kind("Job").map(job).collect(),
        services: of_kind("Service").map(service).collect(),
    })
}

/// Names, as `namespace/name`, and uids of pods in a list.
pub(super) fn pods_of(list: &Value) -> Vec<(String, String)> {
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|item| (full_name(item), word(&item["metadata"]["uid"]))).collect()
}

fn pod(object: &Value) -> PodStatus {
    let status = &object["status"];
    // What the kubelet has not got to yet has no status, but is in the specification.
    let specified = |list: &str| object["spec"][list].as_array().cloned().unwrap_or_default();
    let specified = [specified("initContainers"), specified("containers")].concat();
    let said = |list: &str| status[list].as_array().cloned().unwrap_or_default();
    let said = [said("initContainerStatuses"), said("containerStatuses")].concat();
    let containers =
        specified.iter().map(|one| container(said.iter().find(|status| status["name"] == one["name"]).unwrap_or(one)));
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let said_conditions = conditions.clone();
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let ready = conditions.filter(|condition| is_ready(condition)).count() > 0;
    PodStatus {
        namespace: word(&object["metadata"]["namespace"]),
        name: word(&object["metadata"]["name"]),
        phase: word(&status["phase"]),
        ip: status["podIP"].as_str().map(str::to_owned),
        ipv6: words(&status["podIPs"], "ip").into_iter().find(|ip| ip.contains(':')),
        ready: ready && object["metadata"]["deletionTimestamp"].is_null(),
        job: owner(object, "Job", |name| name.to_owned()),
        // A ReplicaSet is named after its Deployment and a hash of the template.
        deployment: owner(object, "ReplicaSet", |name| name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned()),
        conditions: said_conditions.map(condition).collect(),
        containers: containers.collect(),
        reason: String::new(),
        injected: object["metadata"]["annotations"]["openservicemesh.io/injected"].as_str().map(str::to_owned),
        timeline: Vec::new(),
    }
}

fn condition(condition: &Value) -> Condition {
    Condition {
        type_: word(&condition["type"]),
        status: word(&condition["status"]),
        reason: word(&condition["reason"]),
        message: word(&condition["message"]),
    }
}

/// From its status, or from its specification as long as it has none.
fn container(status: &Value) -> ContainerStatus {
    let ended = &status["state"]["terminated"]["exitCode"];
    ContainerStatus {
        name: word(&status["name"]),
        ready: status["ready"] == true,
        restarts: number(&status["restartCount"]),
        exit_code: ended.as_i64().and_then(|code| code.try_into().ok()),
        pid: None,
    }
}

fn job(object: &Value) -> JobStatus {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let over = |condition: &&Value| {
        condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed")
    };
    let condition = conditions.clone().find(over);
    JobStatus {
        name: word(&object["metadata"]["name"]),
        state: condition.map_or("Running".into(), |condition| word(&condition["type"])),
        reason: condition.map(|condition| word(&condition["reason"])).unwrap_or_default(),
        succeeded: number(&object["status"]["succeeded"]) as usize,
        failed: number(&object["status"]["failed"]) as usize,
    }
}

fn service(object: &Value) -> ServiceStatus {
    ServiceStatus {
        namespace: word(&object["metadata"]["namespace"]),
        name: word(&object["metadata"]["name"]),
        cluster_ip: object["spec"]["clusterIP"].as_str().map(str::to_owned),
        cluster_ips: object["spec"]["clusterIPs"].as_array().into_iter().flatten().map(word).collect(),
    }
}

fn owner(object: &Value, kind: &str, name: impl Fn(&str) -> String) -> Option<ObjectName> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["kind"] == kind)?;
    Some(ObjectName { namespace: word(&object["metadata"]["namespace"]), name: name(owner["name"].as_str()?) })
}

fn full_name(object: &Value) -> String {
    format!("{}/{}", word(&object["metadata"]["namespace"]), word(&object["metadata"]["name"]))
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A field of each object of a list.
fn words(list: &Value, field: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| word(&item[field])).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default()
}
