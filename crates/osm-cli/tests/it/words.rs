//! What the command says, and with which exit code.

use osm_testkit::eventually;

use crate::lab::{DEADLINE, idle, lab, osm, said};

#[test]
fn without_a_runner_every_command_says_how_to_get_one() {
    let Some(lab) = lab() else { return };
    for (verb, arguments) in [("status", &[][..]), ("logs", &["x"]), ("exec", &["x", "--", "true"])] {
        let output = lab.osm(verb, arguments);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(said(&output).starts_with(&format!("error: no runner {} is up\n\nhint: bring it up", lab.name)));
    }
    let down = lab.osm("down", &[]);
    assert!(down.status.success());
    assert_eq!(said(&down), format!("no runner {} is up\n", lab.name));
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let output = osm(&["local", "down", "--name", "../../etc"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot be a runner's name"), "{}", said(&output));
}

#[test]
fn what_is_wrong_is_named_and_the_rest_goes_on() {
    let Some(lab) = lab() else { return };
    lab.up("");
    let bad = "
apiVersion: v1
kind: Pod
metadata: {name: host}
spec: {hostNetwork: true, containers: [{name: c, command: [x]}]}
---
kind: [unclosed
---
apiVersion: v1
kind: Pod
metadata: {name: no-command}
spec: {containers: [{name: c, image: shop/api}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
---
apiVersion: v1
kind: Pod
metadata: {name: fine}
spec: {containers: [{name: c, command: [sleep, infinity], livenessProbe: {grpc: {port: 1}}}]}
";
    let output = lab.apply(bad);
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "Pod default/fine created\nPod default/host created\nPod default/no-command created\n");
    let stderr = String::from_utf8_lossy(&output.stderr);
    for line in [
        "document 1 (line 1): Pod default/host: spec.hostNetwork: a pod of the local runner has no host network",
        "document 2 (line 6): not YAML",
        "document 3 (line 8): Pod default/no-command: spec.containers[0].command: image \"shop/api\" has no command",
        "kind StatefulSet of apps/v1 is not read; skipped",
        "Pod default/fine: spec.containers[0].livenessProbe.grpc: not supported by the local runner; ignored",
    ] {
        assert!(stderr.contains(line), "{line}\nis not in\n{stderr}");
    }
    eventually(DEADLINE, || lab.pod("fine")["phase"] == "Running");
    assert!(lab.pod("no-command")["reason"].as_str().unwrap().starts_with("refused: "));
    assert!(lab.pod("host").is_null());
}

#[test]
fn exit_codes_and_outputs_are_passed_on() {
    let Some(lab) = lab() else { return };
    lab.up(&idle("pod"));
    let output = lab.sh("pod", "echo out; echo err >&2; exit 42");
    assert_eq!(output.status.code(), Some(42));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(lab.sh("pod", "kill -9 $$").status.code(), Some(137));
    assert_eq!(lab.osm("exec", &["pod", "--", "no-such-program"]).status.code(), Some(127));
    let node = lab.osm("exec", &["--node", "--", "ip", "-br", "link"]);
    assert!(said(&node).contains("osm0"), "{}", said(&node));
    let missing = lab.osm("exec", &["pod", "-c", "nobody", "--", "true"]);
    assert!(said(&missing).contains("has no container nobody\n\nhint: its containers: main"), "{}", said(&missing));
}

#[test]
fn a_pod_that_fails_ends_the_wait_with_its_last_words() {
    let Some(lab) = lab() else { return };
    let failing = "
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  restartPolicy: Never
  containers:
  - {name: c, command: [sh, -c, 'echo the disk is full; exit 3'], readinessProbe: {tcpSocket: {port: 1}}}
";
    let file = lab.file("failing.yaml", failing);
    let output = lab.osm("up", &["-f", &file]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("pod default/broken failed: container c ended with exit code 3"), "{text}");
    assert!(text.contains("its last words: the disk is full"), "{text}");
}
