//! IPv6: in a pod that has it from its start it is meshed like IPv4, and in one that has not, nothing of it hangs.

use anyhow::{Context, Result, ensure};

use super::hold::number_after;
use super::manifests::{container_pod, demo_pod, once_pod, plain_shop, service, service_account, shop};
use super::parking::{Parked, park_through_an_outage};
use super::shapes::SHAPES;
use super::wire;
use crate::Choice;
use crate::lab::{Lab, LoadCounts, Place, Pod, PodStatus, binary, wait_for};

/// A held connection takes a second at least, one that hangs a minute.
const AT_ONCE_MS: u64 = 900;

/// Addresses for documentation (RFC 3849).
const CLIENT: &str = "2001:db8::1";
const SERVER: &str = "2001:db8::2";

pub(super) fn ipv6_does_not_hang(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &[shop(), plain_shop()].concat())?;
    lab.wait_ready("shop/server")?;
    let service = lab.cluster_ip("shop/server")?;
    let dual = format!(
        "  hostAliases: [{{ip: '{SERVER}', hostnames: [server.shop]}}, {{ip: {service}, hostnames: [server.shop]}}]
  containers:
    - {{name: main, image: osm-demo, args: [serve, --address, '::', --port, '9999', --name, itself]}}
"
    );
    lab.apply(&container_pod("dual", "openservicemesh.io/startup: init", &dual))?;
    let outside = container_pod("outside", "", &dual).replace("namespace: shop", "namespace: plain");
    lab.apply(&outside)?;
    let (pod, other) = (lab.wait_ready("shop/dual")?, lab.wait_ready("plain/outside")?);
    let client = lab.pod("shop/dual");
    wait_for("the server answers", || client.get("http://server.shop/"))?;
    let at_once = |url: &str| -> Result<String> {
        let said = client.exec_demo(&["once", url])?.success()?;
        let connect_ms = number_after(&said, "connect_ms ").with_context(|| format!("it said {said}"))?;
        ensure!(connect_ms < AT_ONCE_MS, "connecting to {url} took {connect_ms} ms");
        Ok(said)
    };
    at_once("http://[::1]:9999/").context("the pod's own loopback address")?;
    // Nobody has a way to its first address, so the second is taken: without a wait, and through the mesh.
    let body = at_once("http://server.shop/").context("a name with an address of each family")?;
    ensure!(body.contains("hello from server"), "{body}");

    // The same with addresses that work. They come after the start, so there are no rules for them.
    let process = |pod: &PodStatus| -> Result<String> {
        let pid = pod.container("main").and_then(|main| main.pid).context("its application does not run")?;
        Ok(format!("/proc/{pid}/ns/net"))
    };
    let enter = |namespace: &str| format!("--net={namespace}");
    let (inside, beside) = (enter(&process(&pod)?), enter(&process(&other)?));
    for (namespace, address) in [(&inside, CLIENT), (&beside, SERVER)] {
        let script = format!(
            "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6 && ip -6 address add {address}/64 dev eth0 nodad"
        );
        lab.node(&["nsenter", namespace, "sh", "-c", &script])?.success().context("giving the pod an address")?;
    }
    wait_for("a connection between two IPv6 addresses comes about", || at_once(&format!("http://[{SERVER}]:9999/")))?;
    at_once("http://[::1]:9999/")?;

    // With rules for IPv6 and nobody behind them it does hang: that they are not there is what this shows.
    let sidecar = binary("osm-sidecar")?;
    let sidecar = sidecar.to_str().context("paths of builds are text")?;
    lab.node(&["nsenter", &inside, sidecar, "init", "--families=dual-stack"])?.success()?;
    let demo = lab.demo()?;
    let hangs = client.exec(&["timeout", "3", &demo, "once", &format!("http://[{SERVER}]:9999/")])?;
    ensure!(hangs.code == Some(124), "it did not hang: {}", hangs.all());
    Ok(String::new())
}

/// Only what TrafficTargets grant, and what is outside the mesh.
const EGRESS_BY_POLICY: &str = "---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enableEgress: true, enablePermissiveTrafficPolicyMode: false}}
";

/// A word that no one outside may read.
const MARKER: &str = "a-word-that-nobody-else-may-read";

pub(super) fn ipv6_is_meshed(choice: &Choice) -> Result<String> {
    let lab = Lab::up_with_ipv6(choice, &dual_stack_shops())?;
    for pod in ["shop/server", "shop/client", "shop/greeter", "shop/dual", "plain/server", "plain/client"] {
        lab.wait_ready(pod)?;
    }
    services_are_reached(&lab).context("a service over IPv6")?;
    the_own_pod_is_reached(&lab).context("the pod itself")?;
    strangers_are_refused_alike(&lab)?;
    let bytes = nothing_is_in_plain_text(&lab).context("what is on the wire")?;
    first_connections_are_held(&lab).context("the first connection of a pod")?;
    let parked = a_connection_is_parked(&lab).context("a connection while the controller is down")?;
    let killed = kills_refuse_nobody(&lab).context("Envoy is killed")?;
    egress_ends_at_the_mesh(&lab).context("what leaves the mesh")?;
    Ok(format!("{bytes} bytes captured, none of them plain text; {parked}; {killed}"))
}

/// The shops with services in IPv6 alone, and one in both.
fn dual_stack_shops() -> String {
    let http = "{name: http, port: 80, targetPort: 8080}";
    let asks = |service: String, families: &str, app: &str, own: &str| {
        service
            .replace("spec:\n", &format!("spec:\n  {families}\n"))
            .replace(&format!("app: {own}"), &format!("app: {app}"))
    };
    let six = "ipFamilies: [IPv6]";
    let dual = "  containers:
    - {name: main, image: osm-demo, args: [serve, --address, '::', --port, '9999', --name, itself]}
";
    [
        shop(),
        // The application outside the mesh has to listen there itself; that of the mesh is reached by its proxy.
        plain_shop().replace("serve, --port", "serve, --address, '::', --port"),
        asks(service("shop", "six", http), six, "server", "six"),
        asks(service("shop", "both", http), "ipFamilyPolicy: RequireDualStack", "server", "both"),
        asks(service("plain", "six", http), six, "server", "six"),
        service_account("shop", "greeter"),
        asks(service("shop", "greeter", "{name: tcp-greeting, port: 3306}"), six, "greeter", "greeter"),
        demo_pod("shop", "greeter", "greeter", "greet, --port, '3306'"),
        container_pod("dual", "", dual),
    ]
    .concat()
}

/// By name and by address, over HTTP and TCP, through both proxies.
fn services_are_reached(lab: &Lab) -> Result<()> {
    let (client, server) = (lab.pod("shop/client"), lab.pod("shop/server"));
    let handshakes = "listener.0.0.0.0_15003.ssl.handshake";
    let before = server.stat(handshakes)?;
    let (six, both) = (lab.cluster_ipv6("shop/six")?, lab.cluster_ipv6("shop/both")?);
    for host in ["six.shop", &six, &both] {
        let body = wait_for("the server answers", || client.get(&format!("http://{host}/")))?;
        ensure!(body.contains("hello from server"), "{host} answered {body}");
    }
    wait_for("a server that speaks first", || client.exec_demo(&["hear", "greeter.shop:3306"])?.success())?;
    for cluster in ["shop/six|80", "shop/greeter|3306"] {
        let made = client.stat(&format!("cluster.{cluster}.ssl.handshake"))?;
        ensure!(made > 0, "the client's Envoy made no TLS handshake for {cluster}");
    }
    ensure!(server.stat(handshakes)? > before, "the server's Envoy made no TLS handshake");
    let connections = client.in_network(&["ss", "-Htn6", "state", "established", "dport", "=", ":8080"])?;
    ensure!(connections.contains(&ipv6(lab, "shop/server")?), "the proxies do not talk over IPv6: {connections}");
    // The kubelet asks over the family of its choice.
    let url = format!("http://[{}]:15904/osm-sidecar/ready", ipv6(lab, "shop/server")?);
    let demo = binary("osm-demo")?;
    let demo = demo.to_str().context("paths of builds are text")?;
    lab.node(&[demo, "once", &url])?.success().context("asking the agent from the node")?;
    Ok(())
}

/// The loopback address and the pod's own, without a proxy and without a wait.
fn the_own_pod_is_reached(lab: &Lab) -> Result<()> {
    let dual = lab.pod("shop/dual");
    for address in ["::1", &ipv6(lab, "shop/dual")?] {
        let said = dual.exec_demo(&["once", &format!("http://[{address}]:9999/")])?.success()?;
        let connect_ms = number_after(&said, "connect_ms ").with_context(|| format!("it said {said}"))?;
        ensure!(connect_ms < AT_ONCE_MS, "connecting to {address} took {connect_ms} ms");
    }
    Ok(())
}

/// Neither family lets a pod outside the mesh in, nor one of the mesh out.
fn strangers_are_refused_alike(lab: &Lab) -> Result<()> {
    for (from, to) in [("plain/client", "shop/server"), ("shop/client", "plain/server")] {
        for host in hosts(lab, to)? {
            let answer = lab.pod(from).get(&format!("http://{host}:8080/"));
            ensure!(answer.is_err(), "{from} was answered by {host} of {to}: {answer:?}");
        }
    }
    // There is somebody to be answered by.
    for host in hosts(lab, "plain/server")? {
        lab.pod("plain/client").get(&format!("http://{host}:8080/")).context("between pods outside the mesh")?;
    }
    let outside = lab.pod("plain/client").get("http://six.shop/");
    ensure!(outside.is_err(), "a pod outside the mesh was answered: {outside:?}");
    Ok(())
}

fn nothing_is_in_plain_text(lab: &Lab) -> Result<usize> {
    let capture = |file, client, namespace: &str| {
        let url = format!("http://six.{namespace}/{MARKER}");
        wire::capture(lab, file, "ip6 and tcp and not port 15904", client, &url)
    };
    let plain = capture("plain.pcap", "plain/client", "plain")?;
    ensure!(
        wire::holds(&plain, MARKER.as_bytes()),
        "the capture of pods outside the mesh shows nothing: it proves nothing"
    );
    let meshed = capture("meshed.pcap", "shop/client", "shop")?;
    wire::is_encrypted(&meshed, &[MARKER.as_bytes(), b"hello from server"])?;
    Ok(meshed.len())
}

/// In every shape with the hold; without it the connection is refused.
fn first_connections_are_held(lab: &Lab) -> Result<()> {
    let once = |name: &str, annotation: &str| once_pod(name, annotation).replace("server.shop", "six.shop");
    let end_of = |name: &str| -> Result<(PodStatus, String)> {
        let full_name = format!("shop/{name}");
        let pod = lab.wait_for(&full_name, "done", |pod| pod.exit_code("once").is_some())?;
        Ok((pod, lab.logs(&full_name, "once")?))
    };
    for shape in SHAPES {
        let name = format!("once-{shape}");
        // In the shape `init` its user is told that it never completes.
        lab.apply_file("once.yaml", &once(&name, &format!("openservicemesh.io/startup: {shape}")))?;
        let (pod, log) = end_of(&name)?;
        ensure!(pod.exit_code("once") == Some(0), "in shape {shape} it failed: {log}");
    }
    // A kubelet may start an application so late that it needs no hold.
    if lab.place() == Place::Cluster {
        return Ok(());
    }
    lab.apply(&once("unheld", "openservicemesh.io/hold: none"))?;
    let (_, log) = end_of("unheld")?;
    ensure!(log.contains("refused"), "without the hold it was not refused: {log}");
    Ok(())
}

fn a_connection_is_parked(lab: &Lab) -> Result<String> {
    let Parked { connect_ms, .. } = park_through_an_outage(lab, "http://six.shop/")?;
    ensure!(connect_ms < AT_ONCE_MS, "connect() took {connect_ms} ms: the agent did not take the connection");
    Ok(format!("connect() took {connect_ms} ms while the controller was down"))
}

/// New connections while Envoy is killed, in the client and in the server.
fn kills_refuse_nobody(lab: &Lab) -> Result<String> {
    let client = lab.pod("shop/client");
    let load = client.load("http://six.shop/", 200, 12)?;
    for pod in [client, lab.pod("shop/server"), client] {
        kill_when_loaded(&client, &pod)?;
    }
    let counts = LoadCounts::of(load)?;
    ensure!(counts.refused == 0 && counts.timed_out == 0 && counts.failed == 0, "{counts:?}");
    Ok(format!("3 kills, {} connections: none refused, {} reset", counts.tried, counts.reset))
}

fn kill_when_loaded(client: &Pod<'_>, pod: &Pod<'_>) -> Result<()> {
    const REQUESTS: &str = "cluster.shop/six|80.upstream_rq_total";
    let before = client.stat(REQUESTS)?;
    wait_for("the load goes on", || {
        let now = client.stat(REQUESTS)?;
        ensure!(now > before + 100, "{now} requests so far");
        Ok(())
    })?;
    pod.kill_envoy()
}

/// What is outside is reached, and what no policy grants is answered by the pod's own proxy, for either family.
fn egress_ends_at_the_mesh(lab: &Lab) -> Result<()> {
    lab.apply(EGRESS_BY_POLICY)?;
    let client = lab.pod("shop/client");
    for host in hosts(lab, "plain/server")? {
        wait_for("what is outside is reached", || client.get(&format!("http://{host}:8080/")))?;
    }
    for address in [lab.cluster_ip("shop/both")?, lab.cluster_ipv6("shop/both")?] {
        wait_for("what is not granted is refused", || {
            let said = client.exec_demo(&["once", &format!("http://{address}/")])?.all();
            ensure!(said.contains("403"), "it said {said}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Both addresses of a pod, as they stand in a URL.
fn hosts(lab: &Lab, pod: &str) -> Result<[String; 2]> {
    let v4 = lab.wait_ready(pod)?.ip.context("it has no address")?;
    Ok([v4, format!("[{}]", ipv6(lab, pod)?)])
}

fn ipv6(lab: &Lab, pod: &str) -> Result<String> {
    lab.wait_ready(pod)?.ipv6.context("it has no IPv6 address")
}
