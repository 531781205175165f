//! Two programs talk, and nobody listens in.

use anyhow::{Context, Result, ensure};

use super::manifests::{demo_pod, plain_shop, service, service_account, shop};
use super::wire::{self, holds, is_encrypted};
use crate::Choice;
use crate::lab::{Lab, wait_for};

pub(super) fn two_programs_talk(choice: &Choice) -> Result<String> {
    let more = [
        service_account("shop", "greeter"),
        service("shop", "greeter", "{name: tcp-greeting, port: 3306}"),
        demo_pod("shop", "greeter", "greeter", "greet, --port, '3306'"),
        // One port that is HTTP for one service and TCP for another.
        service_account("shop", "echo"),
        service("shop", "echo", "{name: tcp-echo, port: 80, targetPort: 9000}"),
        demo_pod("shop", "echo", "echo", "greet, --port, '9000'"),
        "---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec:
  clusterIP: None
  selector: {app: server}
  ports: [{name: http, port: 8080}]
"
        .to_owned(),
    ];
    let lab = Lab::up(choice, &[shop(), more.concat()].concat())?;
    for pod in ["shop/client", "shop/server", "shop/greeter", "shop/echo"] {
        lab.wait_ready(pod)?;
    }
    let client = lab.pod("shop/client");
    let names = ["server", "server.shop", "server.shop.svc", "server.shop.svc.cluster.local"];
    for host in names {
        let body = wait_for("the server answers", || client.get(&format!("http://{host}/{host}")))?;
        ensure!(body.trim() == format!("hello from server, you asked for /{host}"), "{host} answered {body}");
    }
    client.get("http://headless.shop:8080/").context("a headless service")?;
    let address = lab.cluster_ip("shop/server")?;
    client.get(&format!("http://{address}/by-address")).context("by cluster address")?;
    for target in ["greeter.shop:3306", "echo.shop:80"] {
        client.exec_demo(&["hear", target])?.success().context("a server that speaks first")?;
    }
    let sent = client.stat("cluster.shop/server|80.upstream_rq_2xx")?;
    let handshakes = client.stat("cluster.shop/server|80.ssl.handshake")?;
    ensure!(sent >= names.len() as u64, "the client's Envoy sent {sent} requests");
    ensure!(handshakes > 0, "the client's Envoy made no TLS handshake");
    let server = lab.pod("shop/server");
    let received = server.stat("http.rds-inbound.8080.downstream_rq_2xx")?;
    let accepted = server.stat("listener.0.0.0.0_15003.ssl.handshake")?;
    ensure!(received >= sent, "the server's Envoy received {received} of {sent} requests");
    ensure!(accepted > 0, "the server's Envoy made no TLS handshake");
    Ok(format!("{sent} requests sent by one Envoy, {received} received by the other"))
}

pub(super) fn the_wire_is_encrypted(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &[shop(), plain_shop()].concat())?;
    for pod in ["shop/client", "shop/server", "plain/client", "plain/server"] {
        lab.wait_ready(pod)?;
    }
    // The node's own probes of sidecars are not traffic of the mesh.
    let capture = |name, client, url: &str| wire::capture(&lab, name, "tcp and not port 15904", client, url);
    let marker = b"a-word-that-nobody-else-may-read";
    let path = String::from_utf8_lossy(marker);
    let plain = capture("plain.pcap", "plain/client", &format!("http://server.plain/{path}"))?;
    ensure!(holds(&plain, marker), "the capture of pods outside the mesh shows nothing: it proves nothing");
    let meshed = capture("meshed.pcap", "shop/client", &format!("http://server.shop/{path}"))?;
    is_encrypted(&meshed, &[marker, b"hello from server"])?;
    Ok(format!("{} bytes captured, none of them plain text", meshed.len()))
}

pub(super) fn the_mesh_is_closed(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &[shop(), plain_shop()].concat())?;
    for pod in ["shop/client", "shop/server", "plain/client"] {
        lab.wait_ready(pod)?;
    }
    wait_for("the server answers inside", || lab.pod("shop/client").get("http://server.shop/"))?;
    let outside = lab.pod("plain/client").get("http://server.shop/");
    ensure!(outside.is_err(), "a pod outside the mesh was answered: {outside:?}");
    Ok(String::new())
}
