//! What pods can expect.

use std::collections::BTreeSet;

use osm_testkit::eventually;

use crate::lab::{DEADLINE, idle, lab, pod, said, server, web_service};

#[test]
fn pods_find_each_other_by_every_name_and_share_the_load() {
    let Some(lab) = lab() else { return };
    let headless = web_service("headless", ", clusterIP: None");
    lab.up(&[idle("client"), server("one"), server("two"), web_service("web", ""), headless].concat());
    for host in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "localhost.web"] {
        assert_eq!(lab.get("client", host, 80).is_ok(), host != "localhost.web", "{host}");
    }
    let status = lab.status();
    let service = &status["services"].as_array().unwrap()[1];
    assert_eq!(service["readyEndpoints"].as_array().unwrap().len(), 2);
    assert!(lab.get("client", service["clusterIp"].as_str().unwrap(), 80).is_ok());
    assert!(lab.get("client", "headless", 8080).is_ok());
    let mut answered = BTreeSet::new();
    eventually(DEADLINE, || {
        answered.extend(lab.get("client", "web", 80));
        answered.len() == 2
    });
    // A pod that reaches its own service may get itself.
    let mut answered = BTreeSet::new();
    eventually(DEADLINE, || {
        answered.extend(lab.get("one", "web", 80));
        answered.len() == 2
    });
    assert!(lab.get("client", "web", 81).unwrap_err().contains("refused"));
}

#[test]
fn a_pod_that_is_not_ready_gets_nothing_and_a_deleted_one_is_gone() {
    let Some(lab) = lab() else { return };
    let unready = pod("late", "app: web", "[sleep, infinity]") + "    readinessProbe: {tcpSocket: {port: 8080}}\n";
    lab.up(&[idle("client"), web_service("web", "")].concat());
    assert!(lab.apply(&unready).status.success());
    eventually(DEADLINE, || lab.pod("late")["reason"] == "container main to pass its readiness probe");
    assert!(lab.get("client", "web", 80).is_err());
    let file = lab.file("delete.yaml", &(unready + &server("one")));
    let output = lab.osm("delete", &["-f", &file]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Pod default/late deleted\nPod default/one not found\n");
    eventually(DEADLINE, || lab.pod("late").is_null());
    assert!(lab.apply(&server("one")).status.success());
    eventually(DEADLINE, || lab.get("client", "web", 80));
}

#[test]
fn a_pod_that_is_made_anew_starts_with_an_empty_log() {
    let Some(lab) = lab() else { return };
    let saying = |word: &str| pod("talker", "", &format!("[sh, -c, 'echo {word}; sleep infinity']"));
    lab.up(&saying("first"));
    eventually(DEADLINE, || lab.done("logs", &["talker"]) == "first\n");
    assert!(lab.apply(&saying("second")).status.success());
    eventually(DEADLINE, || lab.osm("logs", &["talker"]).stdout == b"second\n");
}

#[test]
fn init_containers_sidecars_and_restart_policies_are_the_kubelets() {
    let Some(lab) = lab() else { return };
    let job = "
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: helper, restartPolicy: Always, command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']}
  - {name: prepare, command: [sh, -c, 'echo prepared > /shared/file'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    command: [sh, -c, 'cat /shared/file; echo loud > /dev/stderr; hostname; exit 7']
    securityContext: {runAsUser: 1234, runAsGroup: 5678}
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  restartPolicy: OnFailure
  containers: [{name: main, command: [sh, -c, 'exit 1']}]
";
    lab.up("");
    assert!(lab.apply(job).status.success());
    eventually(DEADLINE, || lab.pod("job")["phase"] == "Failed");
    assert_eq!(lab.done("logs", &["job"]), "prepared\nloud\njob\n");
    let job = lab.pod("job");
    let exits: Vec<_> = job["containers"].as_array().unwrap().iter().map(|c| c["exitCode"].as_i64()).collect();
    assert_eq!(exits, [Some(0), Some(0), Some(7)]);
    let events: Vec<_> = job["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| Some(format!("{} {}", entry["container"].as_str()?, entry["event"].as_str()?)))
        .collect();
    assert_eq!(
        events,
        [
            "helper container-started",
            "prepare container-started",
            "prepare container-exited",
            "main container-started",
            "main container-exited",
            "helper container-exited"
        ]
    );
    eventually(DEADLINE, || {
        let main = lab.pod("stubborn")["containers"][0].clone();
        main["restarts"] == 1 && main["state"] == "back-off"
    });
}

#[test]
fn a_container_is_kept_to_itself() {
    let Some(lab) = lab() else { return };
    let guarded = pod("guarded", "", "[sleep, infinity]")
        + "    securityContext: {runAsUser: 1500, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: \
           {drop: [ALL]}}\n";
    lab.up(&[idle("root"), guarded].concat());
    let check = |pod: &str, script: &str, expected: &str| {
        let output = lab.sh(pod, script);
        assert_eq!(said(&output).trim(), expected, "{pod}: {script}");
    };
    check("root", "grep CapBnd /proc/self/status", "CapBnd:\t00000000a80425fb");
    check("root", "echo $$ > /etc/osm-test && cat /etc/osm-test | wc -l", "1");
    check("root", "ls /run", "lock");
    check("root", "echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo kept", "kept");
    check("root", "mknod /dev-null c 1 3 && cat /dev-null 2>/dev/null || echo kept", "kept");
    check("root", "ps ax -o comm= | sort | head -1", "bash");
    check(
        "guarded",
        "id -u; grep -E 'CapBnd|NoNewPrivs' /proc/self/status",
        "1500\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1",
    );
    check("guarded", "touch /tmp/x 2>/dev/null || echo kept", "kept");
    assert!(!std::path::Path::new("/etc/osm-test").exists());
}

#[test]
fn a_deployment_replaces_its_pods_when_the_new_ones_are_ready() {
    let Some(lab) = lab() else { return };
    let deployment = |text: &str, replicas: u32| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  selector: \
             {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: \
             main, command: [sleep, infinity], env: [{{name: TEXT, value: {text}}}]}}]}}\n"
        )
    };
    lab.up(&deployment("one", 3));
    let names = || -> Vec<String> {
        let status = lab.status();
        status["pods"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = names();
    assert_eq!(first.len(), 3);
    assert!(lab.apply(&deployment("two", 2)).status.success());
    eventually(DEADLINE, || names().len() == 2 && names().iter().all(|name| !first.contains(name)));
    assert_eq!(said(&lab.sh(&names()[0], "echo $TEXT")), "two\n");
}
