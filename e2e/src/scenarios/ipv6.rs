//! IPv6 in a pod whose proxy speaks IPv4 only: nothing of it hangs.

use anyhow::{Context, Result, ensure};

use super::hold::number_after;
use super::manifests::{container_pod, plain_shop, shop};
use crate::Choice;
use crate::lab::{Lab, wait_for};

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

    // The same with addresses that work.
    let process = |pod: &crate::lab::PodStatus| -> Result<String> {
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
    let sidecar = crate::lab::binary("osm-sidecar")?;
    let sidecar = sidecar.to_str().context("paths of builds are text")?;
    lab.node(&["nsenter", &inside, sidecar, "init", "--families=dual-stack"])?.success()?;
    let demo = lab.demo()?;
    let hangs = client.exec(&["timeout", "3", &demo, "once", &format!("http://[{SERVER}]:9999/")])?;
    ensure!(hangs.code == Some(124), "it did not hang: {}", hangs.all());
    Ok(String::new())
}
