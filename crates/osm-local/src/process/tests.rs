use serde_json::{Value, json};

use super::*;
use crate::addresses::IpFamilies;

fn build(pod_spec: Value, images: &str) -> Result<ContainerSpec, Box<Problem>> {
    let pod: k8s::Pod = serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "shop"}, "spec": pod_spec}))
    .unwrap();
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    let volumes = BTreeMap::from([("v".to_owned(), PathBuf::from("/volumes/v"))]);
    let images = Images::parse(images, Path::new("/")).unwrap();
    let around = Surroundings {
        pod: &pod,
        ips: PodIps::of([10, 244, 0, 7].into(), IpFamilies::V4),
        images: &images,
        volumes: &volumes,
        scratch: Path::new("/scratch"),
    };
    container_spec(&container, "spec.containers[0]", &around)
}

#[test]
fn command_and_args_are_put_together_as_kubernetes_does() {
    let images = "images: {web: {command: [serve, --image], env: {A: image}}}";
    let check = |container: Value, expected: &[&str]| {
        let spec = build(json!({"containers": [container]}), images).unwrap();
        assert_eq!(spec.process.command, expected);
    };
    check(json!({"name": "c", "image": "web"}), &["serve", "--image"]);
    check(json!({"name": "c", "image": "web:1", "args": ["x"]}), &["serve", "--image", "x"]);
    check(json!({"name": "c", "image": "web", "command": ["own"], "args": ["x"]}), &["own", "x"]);
    let env = json!([{"name": "B", "value": "2"}]);
    check(json!({"name": "c", "image": "other", "command": ["own", "$(B)"], "env": env}), &["own", "2"]);
}

#[test]
fn an_image_without_a_command_says_what_to_write() {
    let problem = build(json!({"containers": [{"name": "c", "image": "reg/web:1"}]}), "").unwrap_err();
    assert_eq!(
        problem.to_string(),
        "Pod shop/web-1: spec.containers[0].command: image \"reg/web:1\" has no command; write a command here, or in \
         the images file:  images: {\"reg/web:1\": {command: [PROGRAM, ...]}}"
    );
}

#[test]
fn rights_are_the_container_runtimes_defaults_with_what_is_dropped_and_added() {
    let held = |security: Value| {
        let container = json!({"name": "c", "command": ["x"], "securityContext": security});
        build(json!({"containers": [container]}), "").map(|spec| spec.process.capabilities)
    };
    assert_eq!(held(json!({})).unwrap().unwrap().len(), 14);
    assert_eq!(
        held(json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "cap_net_raw"]}})).unwrap().unwrap(),
        ["CAP_NET_ADMIN", "CAP_NET_RAW"].map(str::to_owned).into()
    );
    assert!(!held(json!({"capabilities": {"drop": ["CHOWN"]}})).unwrap().unwrap().contains("CAP_CHOWN"));
    assert_eq!(held(json!({"privileged": true})).unwrap(), None);
    assert!(
        held(json!({"capabilities": {"add": ["FLY"]}})).unwrap_err().message.contains("CAP_FLY is not a capability")
    );
}

#[test]
fn the_container_says_who_it_is_before_the_pod_does() {
    let spec = build(
        json!({"securityContext": {"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9, "supplementalGroups": [10]},
            "containers": [{"name": "c", "command": ["x"], "securityContext": {"runAsUser": 70}}]}),
        "",
    )
    .unwrap();
    assert_eq!((spec.process.uid, spec.process.gid, spec.process.groups), (70, 8, [9, 10].into()));
    let refused = json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c", "command": ["x"]}]});
    assert_eq!(build(refused, "").unwrap_err().field, "spec.containers[0].securityContext.runAsNonRoot");
}

#[test]
fn volumes_are_mounted_where_the_container_says() {
    let container = |name: &str| {
        let mount = json!({"name": name, "mountPath": "/in", "subPath": "sub", "readOnly": true});
        json!({"containers": [{"name": "c", "command": ["x"], "volumeMounts": [mount]}]})
    };
    let spec = build(container("v"), "images: {'': {mounts: {/bin/tool: /opt/tool}}}").unwrap();
    let mount =
        |source: &str, target: &str| BindMount { source: source.into(), target: target.into(), is_read_only: true };
    assert_eq!(spec.mounts, [mount("/opt/tool", "/bin/tool"), mount("/volumes/v/sub", "/in")]);
    assert!(build(container("w"), "").unwrap_err().message.contains("has no volume \"w\""));
}

#[test]
fn names_resolve_first_in_the_pods_own_namespace() {
    let spec = build(json!({"containers": [{"name": "c", "command": ["x"]}]}), "").unwrap();
    let file = |path: &str| spec.files[Path::new(path)].clone();
    assert!(file("/etc/resolv.conf").starts_with("search shop.svc.cluster.local svc.cluster.local cluster.local\n"));
    assert!(file("/etc/hosts").contains("10.244.0.7\tweb-1\n"));
}
