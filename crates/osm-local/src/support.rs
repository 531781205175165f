//! What the runner does not carry out, by object and field. It is said once, and the rest goes on.
//!
//! The tables name what is carried out and what means nothing on one machine; everything else that is written in a
//! manifest is a problem. So a field that Kubernetes gets tomorrow is named, not silently dropped.

use osm_api::{Problem, Reason, k8s};
use serde_json::Value;

const IGNORED: &str = "not supported by the local runner; ignored";

/// Fields that are carried out, or that mean nothing where there is one node, no registry and no scheduler.
const POD: &[&str] = &[
    "containers",
    "initContainers",
    "volumes",
    "restartPolicy",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "hostname",
    "hostAliases",
    "securityContext",
    "terminationGracePeriodSeconds",
    "readinessGates",
    "enableServiceLinks",
    "nodeName",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "priority",
    "priorityClassName",
    "preemptionPolicy",
    "schedulerName",
    "imagePullSecrets",
    "os",
];
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "env",
    "envFrom",
    "ports",
    "resources",
    "volumeMounts",
    "workingDir",
    "securityContext",
    "readinessProbe",
    "startupProbe",
    "livenessProbe",
    "lifecycle",
    "restartPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
const POD_SECURITY: &[&str] =
    &["runAsUser", "runAsGroup", "runAsNonRoot", "supplementalGroups", "fsGroup", "fsGroupChangePolicy"];
const CONTAINER_SECURITY: &[&str] = &[
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "capabilities",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "privileged",
];
const PROBE: &[&str] = &[
    "httpGet",
    "tcpSocket",
    "exec",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];
const HOOK: &[&str] = &["exec", "httpGet", "sleep"];
const VOLUME: &[&str] = &["name", "emptyDir", "projected", "downwardAPI", "configMap"];
const EMPTY_DIR: &[&str] = &["medium"];
const PROJECTION: &[&str] = &["serviceAccountToken", "downwardAPI", "configMap"];
const MOUNT: &[&str] = &["name", "mountPath", "readOnly", "subPath", "recursiveReadOnly"];
const DEPLOYMENT: &[&str] = &[
    "replicas",
    "selector",
    "template",
    "strategy",
    "minReadySeconds",
    "revisionHistoryLimit",
    "progressDeadlineSeconds",
];
const JOB: &[&str] = &[
    "template",
    "completions",
    "parallelism",
    "backoffLimit",
    "activeDeadlineSeconds",
    "suspend",
    "selector",
    "manualSelector",
];
const SERVICE: &[&str] = &[
    "ports",
    "selector",
    "clusterIP",
    "clusterIPs",
    "type",
    "publishNotReadyAddresses",
    "ipFamilyPolicy",
    "ipFamilies",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "trafficDistribution",
];

/// Who carries out a pod's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbedBy {
    /// The runner, which knows the simpler kinds.
    Runner,
    /// The pod's agent, which knows all of them.
    Agent,
}

/// What a pod asks for that is not carried out. `prefix` is where its spec is: `spec`, or `spec.template.spec`.
pub(crate) fn pod_problems(subject: &str, spec: &k8s::PodSpec, prefix: &str, probed_by: ProbedBy) -> Vec<Problem> {
    let mut found = Found { subject, problems: Vec::new() };
    let value = serde_json::to_value(spec).expect("Kubernetes types have string keys only, so they are JSON");
    found.outside(&value, prefix, POD);
    found.outside(&value["securityContext"], &format!("{prefix}.securityContext"), POD_SECURITY);
    for field in ["initContainers", "containers"] {
        for (path, container) in items(&value, prefix, field) {
            found.container(container, &path, probed_by);
        }
    }
    for (path, volume) in items(&value, prefix, "volumes") {
        found.outside_as(volume, &path, VOLUME, "not supported by the local runner; the volume stays empty");
        found.outside(&volume["emptyDir"], &format!("{path}.emptyDir"), EMPTY_DIR);
        for (path, source) in items(&volume["projected"], &format!("{path}.projected"), "sources") {
            found.outside(source, &path, PROJECTION);
        }
    }
    found.problems
}

/// What a Deployment asks for, beside its pods, that is not carried out.
pub(crate) fn deployment_problems(subject: &str, deployment: &k8s::Deployment) -> Vec<Problem> {
    let mut found = Found { subject, problems: Vec::new() };
    let value = serde_json::to_value(&deployment.spec).expect("Kubernetes types are JSON");
    found.outside(&value, "spec", DEPLOYMENT);
    found.problems
}

/// What a Job asks for, beside its pods, that is not carried out.
pub(crate) fn job_problems(subject: &str, job: &k8s::Job) -> Vec<Problem> {
    let mut found = Found { subject, problems: Vec::new() };
    let value = serde_json::to_value(&job.spec).expect("Kubernetes types are JSON");
    found.outside(&value, "spec", JOB);
    found.problems
}

/// What a Service asks for that is not carried out.
pub(crate) fn service_problems(subject: &str, service: &k8s::Service) -> Vec<Problem> {
    let mut found = Found { subject, problems: Vec::new() };
    let value = serde_json::to_value(&service.spec).expect("Kubernetes types are JSON");
    if value["sessionAffinity"] == "None" {
        found.outside(&value, "spec", &[SERVICE, &["sessionAffinity"]].concat());
    } else {
        found.outside(&value, "spec", SERVICE);
    }
    match value["type"].as_str() {
        None | Some("ClusterIP") => {}
        Some("NodePort" | "LoadBalancer") => {
            found.say("spec.type".into(), "there is nothing outside the local runner to reach it; as ClusterIP");
        }
        Some(_) => found.say("spec.type".into(), "not supported by the local runner; the service has no address"),
    }
    found.problems
}

struct Found<'a> {
    subject: &'a str,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn container(&mut self, container: &Value, path: &str, probed_by: ProbedBy) {
        self.outside(container, path, CONTAINER);
        self.outside(&container["securityContext"], &format!("{path}.securityContext"), CONTAINER_SECURITY);
        // Requests only matter to a scheduler; limits are a promise that is not kept here.
        for field in ["limits", "claims"] {
            if !is_empty(&container["resources"][field]) {
                self.say(format!("{path}.resources.{field}"), IGNORED);
            }
        }
        self.outside(&container["lifecycle"], &format!("{path}.lifecycle"), &["postStart", "preStop"]);
        for hook in ["postStart", "preStop"] {
            self.outside(&container["lifecycle"][hook], &format!("{path}.lifecycle.{hook}"), HOOK);
        }
        for probe in ["readinessProbe", "startupProbe", "livenessProbe"] {
            let path = format!("{path}.{probe}");
            match probed_by {
                ProbedBy::Agent => self.outside(&container[probe], &path, &[PROBE, &["grpc"]].concat()),
                ProbedBy::Runner => self.outside(&container[probe], &path, PROBE),
            }
            if probed_by == ProbedBy::Runner && container[probe]["httpGet"]["scheme"] == "HTTPS" {
                self.say(format!("{path}.httpGet.scheme"), IGNORED);
            }
        }
        for (path, mount) in items(container, path, "volumeMounts") {
            self.outside(mount, &path, MOUNT);
        }
        for (path, variable) in items(container, path, "env") {
            let from = &variable["valueFrom"];
            self.outside_as(
                from,
                &format!("{path}.valueFrom"),
                &["fieldRef", "configMapKeyRef"],
                "not supported by the local runner; the variable is not set",
            );
        }
        for (path, source) in items(container, path, "envFrom") {
            self.outside(source, &path, &["configMapRef", "prefix"]);
        }
    }

    fn outside(&mut self, value: &Value, path: &str, known: &[&str]) {
        self.outside_as(value, path, known, IGNORED);
    }

    fn outside_as(&mut self, value: &Value, path: &str, known: &[&str], message: &str) {
        for (field, inner) in value.as_object().into_iter().flatten() {
            if !known.contains(&field.as_str()) && !is_empty(inner) && !is_default(field, inner) {
                self.say(format!("{path}.{field}"), message);
            }
        }
    }

    fn say(&mut self, field: String, message: &str) {
        self.problems.push(Problem::new(self.subject, Reason::Unsupported, message).with_field(field));
    }
}

/// Values that ask for what the runner does anyway.
fn is_default(field: &str, value: &Value) -> bool {
    match field {
        "dnsPolicy" => value == "ClusterFirst",
        "completionMode" => value == "NonIndexed",
        "hostNetwork" | "hostPID" | "hostIPC" | "shareProcessNamespace" | "stdin" | "tty" | "paused" => value == false,
        "seccompProfile" => value["type"] == "RuntimeDefault" || value["type"] == "Unconfined",
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn items<'v>(value: &'v Value, path: &str, field: &str) -> Vec<(String, &'v Value)> {
    let list = value[field].as_array().into_iter().flatten();
    list.enumerate().map(|(index, item)| (format!("{path}.{field}[{index}]"), item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spec: Value) -> Vec<String> {
        said_if(spec, ProbedBy::Runner)
    }

    fn said_if(spec: Value, probed_by: ProbedBy) -> Vec<String> {
        let spec: k8s::PodSpec = serde_json::from_value(spec).unwrap();
        pod_problems("Pod a/b", &spec, "spec", probed_by).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn the_agent_carries_out_probes_that_the_runner_cannot() {
        let spec = serde_json::json!({"containers": [{"name": "c",
            "livenessProbe": {"grpc": {"port": 1}},
            "readinessProbe": {"httpGet": {"port": 2, "scheme": "HTTPS"}}}]});
        assert_eq!(said_if(spec.clone(), ProbedBy::Runner).len(), 2);
        assert_eq!(said_if(spec, ProbedBy::Agent), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_carried_out_is_named_by_field() {
        let spec = serde_json::json!({
            "hostPID": true, "dnsPolicy": "None", "nodeSelector": {"a": "b"},
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}},
                        {"name": "p", "projected": {"sources": [{"secret": {"name": "c"}}]}},
                        {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "containers": [{"name": "c",
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "lifecycle": {"preStop": {"exec": {"command": ["x"]}}, "postStart": {"tcpSocket": {"port": 1}},
                              "stopSignal": "SIGUSR1"},
                "envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}, "prefix": "P"}],
                "livenessProbe": {"exec": {"command": ["x"]}},
                "readinessProbe": {"grpc": {"port": 1}},
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "securityContext": {"procMount": "Unmasked", "seccompProfile": {"type": "RuntimeDefault"}}}],
        });
        let fields: Vec<String> = said(spec).iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
        assert_eq!(
            fields,
            [
                "spec.dnsPolicy",
                "spec.hostPID",
                "spec.containers[0].securityContext.procMount",
                "spec.containers[0].resources.limits",
                "spec.containers[0].lifecycle.stopSignal",
                "spec.containers[0].lifecycle.postStart.tcpSocket",
                "spec.containers[0].readinessProbe.grpc",
                "spec.containers[0].env[0].valueFrom.secretKeyRef",
                "spec.containers[0].envFrom[0].secretRef",
                "spec.volumes[0].hostPath",
                "spec.volumes[1].projected.sources[0].secret",
                "spec.volumes[2].emptyDir.sizeLimit",
            ]
        );
    }

    #[test]
    fn a_plain_pod_has_nothing_to_be_said() {
        let spec = serde_json::json!({
            "restartPolicy": "Never", "dnsPolicy": "ClusterFirst", "hostNetwork": false,
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1}}],
        });
        assert_eq!(said(spec), Vec::<String>::new());
    }

    #[test]
    fn a_service_of_another_type_is_named() {
        let service =
            |spec: Value| -> k8s::Service { serde_json::from_value(serde_json::json!({"spec": spec})).unwrap() };
        let check = |spec: Value, fields: &[&str]| {
            let problems = service_problems("Service a/b", &service(spec));
            assert_eq!(problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), fields);
        };
        check(serde_json::json!({"type": "ClusterIP", "sessionAffinity": "None"}), &[]);
        check(
            serde_json::json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
            &["spec.sessionAffinity", "spec.type"],
        );
        check(serde_json::json!({"type": "ExternalName", "externalName": "x"}), &["spec.externalName", "spec.type"]);
    }
}
