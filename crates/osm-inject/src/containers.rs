//! The two containers, their volumes and the pod's metrics annotations.

use std::collections::BTreeMap;

use osm_api::{INIT_CONTAINER, SIDECAR_CONTAINER, k8s};
use osm_redirect::{FAMILIES_VARIABLE, Families, Redirect, WAIT_FOR_LIMIT_VARIABLE, WAIT_FOR_VARIABLE};

use crate::annotations::Wishes;
use crate::shape::Choice;
use crate::wish::Hold;
use crate::{InjectPolicy, Shape};

/// The volume for sockets and state, which only the sidecar mounts.
pub const SIDECAR_VOLUME: &str = "osm-sidecar";
/// Where the sidecar mounts it.
pub const STATE_DIR: &str = "/var/run/osm";
/// The volume with the pod's token, which only the sidecar mounts.
pub const TOKEN_VOLUME: &str = "osm-token";
/// Where the sidecar mounts it.
const TOKEN_DIR: &str = "/var/run/secrets/osm";
/// Where the sidecar finds the token.
pub const TOKEN_FILE: &str = "/var/run/secrets/osm/token";
/// The agent's port for readiness and the start-up timeline.
pub const STATUS_PORT: i32 = 15904;
/// The port of Envoy's administration, on the loopback address.
pub(crate) const ADMIN_PORT: i32 = 15000;

/// The port on which the sidecar's metrics are scraped.
const METRICS_PORT: i32 = 15010;

/// The audience for which the token is made; the controller accepts no other.
const TOKEN_AUDIENCE: &str = "osm";

/// How long a token holds, in seconds; the kubelet renews it in time.
const TOKEN_LIFETIME_S: i64 = 3600;

/// The program of the one image.
const PROGRAM: &str = "osm-sidecar";

/// Its command that installs the rules and becomes the agent.
pub(crate) const MERGED: &str = "merged";

/// How long one look of the probe that holds the application back may take, on a node that starts many pods at once.
const HELD_LOOK_LIMIT_S: i32 = 10;

/// The container that installs `redirect` and ends.
pub(crate) fn init(policy: &InjectPolicy, redirect: &Redirect) -> k8s::Container {
    let mut args = vec!["init".to_owned()];
    args.extend(redirect.to_args());
    let capabilities = k8s::Capabilities { add: Some(strings(["NET_ADMIN", "NET_RAW"])), drop: Some(strings(["ALL"])) };
    k8s::Container {
        name: INIT_CONTAINER.to_owned(),
        image: Some(policy.init_image.clone()),
        image_pull_policy: Some(policy.image_pull_policy.clone()),
        command: Some(strings([PROGRAM])),
        args: Some(args),
        env: Some(vec![from_pod("POD_IP", addresses(redirect))]),
        security_context: Some(k8s::SecurityContext {
            capabilities: Some(capabilities),
            privileged: policy.privileged_init.then_some(true),
            // A pod may forbid root to all of its containers; this one cannot do without.
            run_as_non_root: Some(false),
            run_as_user: Some(0),
            run_as_group: Some(0),
            ..k8s::SecurityContext::default()
        }),
        ..k8s::Container::default()
    }
}

/// The container with agent and Envoy.
pub(crate) fn sidecar(policy: &InjectPolicy, choice: &Choice, redirect: &Redirect, wishes: &Wishes) -> k8s::Container {
    let is_merged = choice.shape == Shape::Merged;
    let mut args = strings(["agent"]);
    if is_merged {
        args = strings([MERGED]);
        args.extend(redirect.to_args());
    }
    let ready = k8s::HTTPGetAction {
        path: Some("/osm-sidecar/ready".to_owned()),
        port: k8s::IntOrString::Int(STATUS_PORT),
        ..k8s::HTTPGetAction::default()
    };
    k8s::Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(policy.sidecar_image.clone()),
        image_pull_policy: Some(policy.image_pull_policy.clone()),
        command: Some(strings([PROGRAM])),
        args: Some(args),
        env: Some(environment(policy, redirect, wishes)),
        ports: Some(vec![
            port("proxy-admin", ADMIN_PORT),
            port("proxy-inbound", i32::from(policy.redirect.inbound_port.get())),
            port("proxy-metrics", METRICS_PORT),
        ]),
        lifecycle: is_merged.then(rules_first),
        startup_probe: (choice.hold == Hold::Container).then(held_until_programmed),
        readiness_probe: Some(k8s::Probe { http_get: Some(ready), period_seconds: Some(1), ..k8s::Probe::default() }),
        resources: policy.resources.clone(),
        security_context: Some(if is_merged { rights_to_give_up() } else { unprivileged(policy) }),
        volume_mounts: Some(vec![mount(SIDECAR_VOLUME, STATE_DIR, None), mount(TOKEN_VOLUME, TOKEN_DIR, Some(true))]),
        ..k8s::Container::default()
    }
}

/// Has the kubelet start nothing more before the rules are in place. It does not wait for Envoy: a hook that waited for
/// the control plane would keep the kubelet from everything else about the pod.
fn rules_first() -> k8s::Lifecycle {
    let exec = k8s::ExecAction { command: Some(strings([PROGRAM, "installed"])) };
    let hook = k8s::LifecycleHandler { exec: Some(exec), ..k8s::LifecycleHandler::default() };
    k8s::Lifecycle { post_start: Some(hook), ..k8s::Lifecycle::default() }
}

/// Has the kubelet start nothing more before the gate is open. A command, because what it prints is in the pod's events:
/// that is why the pod waits. It never gives up, since a sidecar that is started anew waits for the same.
fn held_until_programmed() -> k8s::Probe {
    k8s::Probe {
        exec: Some(k8s::ExecAction { command: Some(strings([PROGRAM, "ready"])) }),
        period_seconds: Some(1),
        timeout_seconds: Some(HELD_LOOK_LIMIT_S),
        failure_threshold: Some(i32::MAX),
        ..k8s::Probe::default()
    }
}

fn addresses(redirect: &Redirect) -> &'static str {
    match redirect.families {
        Families::V4 => "status.podIP",
        Families::Found | Families::DualStack => "status.podIPs",
    }
}

/// The volumes of the sidecar.
pub(crate) fn volumes() -> [k8s::Volume; 2] {
    let token = k8s::ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_LIFETIME_S),
        path: "token".to_owned(),
        ..k8s::ServiceAccountTokenProjection::default()
    };
    let projection = k8s::VolumeProjection { service_account_token: Some(token), ..k8s::VolumeProjection::default() };
    [
        k8s::Volume {
            name: SIDECAR_VOLUME.to_owned(),
            // In memory, because keys lie there.
            empty_dir: Some(k8s::EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                ..k8s::EmptyDirVolumeSource::default()
            }),
            ..k8s::Volume::default()
        },
        k8s::Volume {
            name: TOKEN_VOLUME.to_owned(),
            projected: Some(k8s::ProjectedVolumeSource {
                sources: Some(vec![projection]),
                ..k8s::ProjectedVolumeSource::default()
            }),
            ..k8s::Volume::default()
        },
    ]
}

/// Has Prometheus scrape the sidecar.
pub(crate) fn announce_metrics(pod: &mut k8s::Pod) {
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    for (key, value) in [("scrape", "true"), ("port", "15010"), ("path", "/stats/prometheus")] {
        annotations.insert(format!("prometheus.io/{key}"), value.to_owned());
    }
}

/// Whether injection added the container.
pub(crate) fn is_ours(container: &k8s::Container) -> bool {
    [INIT_CONTAINER, SIDECAR_CONTAINER].contains(&container.name.as_str())
}

/// Has the agent leave every connection to Envoy, as the kernel does.
pub(crate) fn parks_nothing() -> k8s::EnvVar {
    variable("OSM_PARK_CONNECTIONS", "0")
}

fn environment(policy: &InjectPolicy, redirect: &Redirect, wishes: &Wishes) -> Vec<k8s::EnvVar> {
    let mut environment = vec![
        from_pod("POD_NAME", "metadata.name"),
        from_pod("POD_NAMESPACE", "metadata.namespace"),
        from_pod("POD_UID", "metadata.uid"),
        from_pod("POD_IP", addresses(redirect)),
        from_pod("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        variable("OSM_CONTROLLER", &policy.controller_address),
        variable("OSM_CONTROLLER_NAME", &policy.controller_name),
        variable("OSM_ROOT_CA", &policy.root_ca_pem),
        variable("OSM_TRUST_DOMAIN", &policy.trust_domain),
        variable("OSM_ENVOY_LOG_LEVEL", &policy.log_level),
        variable("OSM_STATE_DIR", STATE_DIR),
        variable("OSM_TOKEN_FILE", TOKEN_FILE),
    ];
    // The agent has to listen where the rules lead.
    if redirect.families != Families::default() {
        environment.push(variable(FAMILIES_VARIABLE, &redirect.families.to_string()));
    }
    environment.extend(policy.concurrency.map(|threads| variable("OSM_CONCURRENCY", &threads.to_string())));
    if !wishes.wait_for.0.is_empty() {
        environment.push(variable(WAIT_FOR_VARIABLE, &wishes.wait_for.to_string()));
        environment.extend(wishes.wait_limit.map(|limit| variable(WAIT_FOR_LIMIT_VARIABLE, &limit.to_string())));
    }
    environment
}

fn unprivileged(policy: &InjectPolicy) -> k8s::SecurityContext {
    let uid = i64::from(policy.redirect.proxy_uid);
    k8s::SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(k8s::Capabilities { add: None, drop: Some(strings(["ALL"])) }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(uid),
        run_as_group: Some(uid),
        ..k8s::SecurityContext::default()
    }
}

/// What it takes to install the rules and then to become the proxy's user for good. A process of the container that the
/// agent did not start, as by `kubectl exec`, has them again.
fn rights_to_give_up() -> k8s::SecurityContext {
    let needed = ["NET_ADMIN", "NET_RAW", "SETGID", "SETPCAP", "SETUID"];
    let capabilities = k8s::Capabilities { add: Some(strings(needed)), drop: Some(strings(["ALL"])) };
    k8s::SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(capabilities),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(false),
        run_as_user: Some(0),
        run_as_group: Some(0),
        ..k8s::SecurityContext::default()
    }
}

pub(crate) fn variable(name: &str, value: &str) -> k8s::EnvVar {
    k8s::EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn from_pod(name: &str, field_path: &str) -> k8s::EnvVar {
    let field = k8s::ObjectFieldSelector { api_version: None, field_path: field_path.to_owned() };
    let source = k8s::EnvVarSource { field_ref: Some(field), ..k8s::EnvVarSource::default() };
    k8s::EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn port(name: &str, number: i32) -> k8s::ContainerPort {
    k8s::ContainerPort { name: Some(name.to_owned()), container_port: number, ..k8s::ContainerPort::default() }
}

fn mount(name: &str, path: &str, read_only: Option<bool>) -> k8s::VolumeMount {
    let (name, mount_path) = (name.to_owned(), path.to_owned());
    k8s::VolumeMount { name, mount_path, read_only, ..k8s::VolumeMount::default() }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}
