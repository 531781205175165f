//! The faults: what each breaks, and what must be said.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::super::manifests::{demo_pod, idle_pod, mesh_namespace, plain_namespace, service_account};
use super::super::outage::{IGNORANT_CONTROLLER, controller_is_ready, replace_controller, restore_controller};
use super::images::Broken;
use crate::lab::{Lab, wait_for};

/// One fault.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    /// The name of its pod, and of its image if that is broken.
    pub(super) name: &'static str,
    /// What the image of the pod's sidecar is.
    pub(super) image: Broken,
    /// Makes the pod and the fault; since when it can be seen, if not since the pod's own process meets it.
    pub(super) begin: fn(&Lab, &str) -> Result<Instant>,
    /// Takes the fault back.
    pub(super) end: fn(&Lab, &str) -> Result<()>,
    /// The steps of the pod's start with which the fault can be seen, the best one first.
    pub(super) met_by: &'static [&'static str],
    /// The code that must be said.
    pub(super) reason: &'static str,
    /// Who must act.
    pub(super) owner: &'static str,
    /// Words that must be said.
    pub(super) words: &'static str,
    /// Whether nothing waits for it.
    pub(super) is_warning: bool,
}

const AGENT: &[&str] = &["agent-started"];
const SIDECAR: &[&str] = &["sidecar-started"];
const INIT: &[&str] = &["init-started"];
/// It was made while the pod was there, or before anything of the pod ran.
const MADE: &[&str] = &[];

/// A listener of the bootstrap where the pod's own is to be.
const IN_THE_WAY: &str = "--config-yaml '{static_resources: {listeners: [{name: in-the-way, \
    address: {socket_address: {address: 0.0.0.0, port_value: 15001}}, \
    filter_chains: [{filters: [{name: envoy.filters.network.echo, typed_config: \
    {\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]}]}}'";

/// What most have in common.
const PLAIN: Fault = Fault {
    name: "",
    image: Broken::Nothing,
    begin: start,
    end: remove,
    met_by: AGENT,
    reason: "",
    owner: "",
    words: "",
    is_warning: false,
};

/// Every fault, in the order in which they are made.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "refused-controller",
        begin: without_controller,
        end: with_controller,
        reason: "controller-refused",
        owner: "osm-controller",
        words: "refused",
        ..PLAIN
    },
    Fault {
        name: "unreachable-controller",
        begin: |lab, pod| firewalled(lab, pod, &["REJECT", "--reject-with", "icmp-host-unreachable"]),
        end: |lab, pod| opened(lab, pod, &["REJECT", "--reject-with", "icmp-host-unreachable"]),
        reason: "controller-unreachable",
        owner: "network",
        words: "cannot reach",
        ..PLAIN
    },
    Fault {
        name: "silent-controller",
        begin: |lab, pod| firewalled(lab, pod, &["DROP"]),
        end: |lab, pod| opened(lab, pod, &["DROP"]),
        reason: "controller-silent",
        owner: "osm-controller",
        words: "no answer for 1s",
        ..PLAIN
    },
    Fault {
        name: "nameless-controller",
        image: Broken::Sidecar("export OSM_CONTROLLER=osm-controller.nowhere.svc:15128"),
        reason: "controller-unresolved",
        owner: "dns",
        words: "osm-controller.nowhere.svc",
        ..PLAIN
    },
    Fault {
        name: "untrusted-controller",
        image: Broken::Sidecar("export OSM_ROOT_CA=\"$(cat $FOLDER/other.pem)\""),
        reason: "controller-untrusted",
        owner: "osm-controller",
        words: "TLS with",
        ..PLAIN
    },
    Fault {
        name: "ignorant-controller",
        begin: with_controller_that_waits_for_objects,
        end: with_controller_as_before,
        reason: "controller-out-of-sync",
        owner: "osm-controller",
        words: "has not read the cluster's objects",
        ..PLAIN
    },
    Fault {
        name: "absent-token",
        image: Broken::Sidecar("export OSM_TOKEN_FILE=/no/such/token"),
        reason: "token-unusable",
        owner: "service-account-token",
        words: "/no/such/token",
        ..PLAIN
    },
    Fault {
        name: "expired-token",
        image: Broken::Sidecar("export OSM_TOKEN_FILE=$FOLDER/expired-token.token"),
        begin: |lab, pod| with_token(lab, pod, "osm", 1_000_000_000),
        reason: "token-expired",
        owner: "service-account-token",
        words: "expired at 2001-09-09",
        ..PLAIN
    },
    Fault {
        name: "foreign-token",
        image: Broken::Sidecar("export OSM_TOKEN_FILE=$FOLDER/foreign-token.token"),
        begin: |lab, pod| with_token(lab, pod, "kubernetes", 4_000_000_000),
        reason: "token-audience",
        owner: "service-account-token",
        words: "audience \"kubernetes\"",
        ..PLAIN
    },
    Fault {
        name: "forged-token",
        image: Broken::Sidecar("export OSM_TOKEN_FILE=$FOLDER/forged"),
        reason: "token-refused",
        owner: "service-account-token",
        words: "(401)",
        ..PLAIN
    },
    Fault {
        name: "unknown-pod",
        begin: |lab, pod| while_the_controller_stands_still(lab, pod, "rm $OBJECTS/pod.shop.$POD.json"),
        met_by: MADE,
        reason: "pod-unknown",
        owner: "osm-controller",
        words: "does not know pod shop/unknown-pod",
        ..PLAIN
    },
    Fault {
        name: "mistaken-account",
        begin: |lab, pod| {
            let edit = "sed -i 's/\"serviceAccountName\":\"[a-z-]*\"/\"serviceAccountName\":\"somebody-else\"/' \
                        $OBJECTS/pod.shop.$POD.json";
            while_the_controller_stands_still(lab, pod, edit)
        },
        met_by: MADE,
        reason: "service-account-mismatch",
        owner: "service-account-token",
        words: "runs as service account somebody-else",
        ..PLAIN
    },
    Fault {
        name: "left-behind",
        image: Broken::Sidecar("[ $1 = init ] || until [ -e /dev/shm/has-left ]; do sleep 0.02; done"),
        begin: |lab, pod| {
            let began = start(lab, pod)?;
            lab.wait_for(&format!("shop/{pod}"), "injected", |_| {
                lab.startup_of(&format!("shop/{pod}")).is_ok_and(|startup| startup.first("sidecar-started").is_some())
            })?;
            lab.apply(&plain_namespace("shop"))?;
            // The agent begins only afterwards: it would be programmed before, and a gate that is open stays open.
            the_mesh_has_no_services(lab)?;
            let begin = lab.pod(&format!("shop/{pod}")).exec_in("envoy", &["touch", "/dev/shm/has-left"])?;
            begin.success().context("letting the agent begin")?;
            Ok(began)
        },
        end: |lab, pod| {
            lab.apply(&mesh_namespace("shop"))?;
            remove(lab, pod)
        },
        reason: "namespace-not-in-mesh",
        owner: "namespace",
        words: "namespace shop is not in the mesh osm",
        ..PLAIN
    },
    Fault {
        name: "rejected-listener",
        image: Broken::EnvoyWith(IN_THE_WAY),
        reason: "configuration-rejected",
        owner: "osm-controller",
        words: "has duplicate address",
        ..PLAIN
    },
    Fault {
        name: "taken-proxy-port",
        image: Broken::Sidecar(
            "[ $1 = init ] || until grep -q ':3A99 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done",
        ),
        begin: |lab, pod| serve_on(lab, pod, "15001"),
        reason: "port-in-use",
        owner: "application",
        words: "Address already in use",
        ..PLAIN
    },
    Fault {
        name: "taken-agent-port",
        image: Broken::Sidecar(
            "[ $1 = init ] || until grep -q ':3A98 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done",
        ),
        begin: |lab, pod| serve_on(lab, pod, "15000"),
        met_by: SIDECAR,
        reason: "port-in-use",
        owner: "application",
        words: "127.0.0.1:15000 for the admin interface",
        ..PLAIN
    },
    Fault {
        name: "absent-envoy",
        image: Broken::Sidecar("export OSM_ENVOY=/no/such/envoy"),
        reason: "envoy-unstartable",
        owner: "sidecar",
        words: "/no/such/envoy: No such file",
        ..PLAIN
    },
    Fault {
        name: "ending-envoy",
        image: Broken::EnvoyWith("--no-such-option"),
        reason: "envoy-ended",
        owner: "envoy",
        words: "exited with status 1, and said: ",
        ..PLAIN
    },
    Fault {
        name: "silent-envoy",
        image: Broken::EnvoyAfter("kill -STOP $$"),
        reason: "envoy-silent",
        owner: "envoy",
        words: "does not answer on its admin socket",
        ..PLAIN
    },
    Fault {
        name: "failing-init",
        image: Broken::Sidecar("[ $1 = init ] && export PATH=/no/such/folder"),
        met_by: INIT,
        reason: "init-failed",
        owner: "node",
        words: "the redirection could not be installed",
        ..PLAIN
    },
    Fault {
        name: "absent-image",
        image: Broken::Absent,
        met_by: MADE,
        reason: "image-missing",
        owner: "node",
        words: "no-such-root",
        ..PLAIN
    },
    Fault {
        name: "unusable-folder",
        image: Broken::Sidecar("export OSM_STATE_DIR=/etc/not-for-us"),
        met_by: SIDECAR,
        reason: "state-dir-unusable",
        owner: "node",
        words: "/etc/not-for-us",
        ..PLAIN
    },
    Fault {
        name: "old-kernel",
        image: Broken::Sidecar("export XTABLES_LIBDIR=$FOLDER/xtables"),
        met_by: INIT,
        reason: "hold-unavailable",
        owner: "node",
        words: "refused instead of held",
        is_warning: true,
        ..PLAIN
    },
    Fault {
        name: "forbidden-user",
        begin: |lab, pod| {
            let taken = "      securityContext: {runAsUser: 1500}\n";
            lab.apply_file("refused.yaml", &(idle_pod("shop", pod) + taken))?;
            Ok(Instant::now())
        },
        met_by: MADE,
        reason: "refused",
        owner: "pod",
        words: "1500",
        ..PLAIN
    },
];

/// Makes an idle pod.
fn start(lab: &Lab, pod: &str) -> Result<Instant> {
    let began = Instant::now();
    lab.apply(&idle_pod("shop", pod))?;
    Ok(began)
}

/// Makes a pod whose application listens on a port of the sidecar.
fn serve_on(lab: &Lab, pod: &str, port: &str) -> Result<Instant> {
    let began = Instant::now();
    lab.apply(&demo_pod("shop", pod, pod, &format!("serve, --port, '{port}', --name, taker")))?;
    Ok(began)
}

fn remove(lab: &Lab, pod: &str) -> Result<()> {
    lab.delete(&(idle_pod("shop", pod) + &service_account("shop", pod)))
}

/// Kills the controller, whose program is gone, and makes a pod.
fn without_controller(lab: &Lab, pod: &str) -> Result<Instant> {
    lab.remove_controller()?;
    lab.signal("osm-controller", "KILL")?;
    start(lab, pod)
}

fn with_controller(lab: &Lab, pod: &str) -> Result<()> {
    lab.place_controller()?;
    controller_is_ready(lab)?;
    lab.wait_ready(&format!("shop/{pod}")).context("it starts when the controller is back")?;
    remove(lab, pod)
}

fn firewalled(lab: &Lab, pod: &str, what: &[&str]) -> Result<Instant> {
    lab.node(&[&["iptables", "-I", "INPUT", "-p", "tcp", "--dport", "15128", "-j"], what].concat())?.success()?;
    start(lab, pod)
}

fn opened(lab: &Lab, pod: &str, what: &[&str]) -> Result<()> {
    lab.node(&[&["iptables", "-D", "INPUT", "-p", "tcp", "--dport", "15128", "-j"], what].concat())?.success()?;
    lab.wait_ready(&format!("shop/{pod}")).context("it starts when the controller can be reached again")?;
    remove(lab, pod)
}

fn with_controller_that_waits_for_objects(lab: &Lab, pod: &str) -> Result<Instant> {
    replace_controller(lab, IGNORANT_CONTROLLER)?;
    start(lab, pod)
}

fn with_controller_as_before(lab: &Lab, pod: &str) -> Result<()> {
    restore_controller(lab)?;
    lab.wait_ready(&format!("shop/{pod}")).context("it starts when the controller knows everything")?;
    remove(lab, pod)
}

/// Signs a token for the pod with the runner's key, for this audience and until this second.
fn with_token(lab: &Lab, pod: &str, audience: &str, until: u64) -> Result<Instant> {
    let claims = format!(
        "{{\"aud\":\"{audience}\",\"namespace\":\"shop\",\"service_account\":\"{pod}\",\"pod\":\"{pod}\",\"pod_uid\":\"\",\
         \"exp\":{until}}}"
    );
    let script = "encode() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
        key=$(od -An -v -tx1 /run/osm-local/$1/token.key | tr -d ' \\n')
        text=$(printf '{\"alg\":\"HS256\",\"typ\":\"JWT\"}' | encode).$(printf '%s' \"$2\" | encode)
        printf '%s.%s' \"$text\" \"$(printf '%s' \"$text\" | openssl dgst -sha256 -mac HMAC -macopt hexkey:$key -binary | encode)\" > $3
        chmod 644 $3";
    let file = lab.path(&format!("{pod}.token")).display().to_string();
    let output = crate::lab::run(std::path::Path::new("sh"), &["-c", script, "sh", lab.name(), &claims, &file])?;
    output.success().context("signing a token")?;
    start(lab, pod)
}

/// Makes a pod, and changes what the controller will read of it while the controller does nothing.
fn while_the_controller_stands_still(lab: &Lab, pod: &str, change: &str) -> Result<Instant> {
    lab.signal("osm-controller", "STOP")?;
    start(lab, pod)?;
    lab.wait_for(&format!("shop/{pod}"), "held by a controller that stands still", |_| {
        // What the controller will read of the pod does not change any more.
        lab.startup_of(&format!("shop/{pod}"))
            .is_ok_and(|startup| startup.missing.first().is_some_and(|item| item.reason == "controller-silent"))
    })?;
    let change = format!("OBJECTS=/run/osm-local/{}/objects POD={pod}; {change}", lab.name());
    lab.node(&["sh", "-c", &change])?.success().context("changing what the controller reads")?;
    lab.signal("osm-controller", "CONT")?;
    Ok(Instant::now())
}

/// Waits until the controller has published that the only namespace with services is outside the mesh.
fn the_mesh_has_no_services(lab: &Lab) -> Result<()> {
    wait_for("the controller knows that the namespace has left", || {
        let page = lab.node(&["curl", "-s", "http://127.0.0.1:9091/metrics"])?.success()?;
        let services = page.lines().find(|line| line.starts_with("osm_services "));
        ensure!(services == Some("osm_services 0"), "it says {services:?}");
        Ok(())
    })
}
