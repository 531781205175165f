//! The commands of `osm` that look into a mesh, on one that runs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::manifests::{SMI_MODE, grant, idle_pod, plain_namespace, service_account, shop};
use crate::Choice;
use crate::lab::{Lab, Output, wait_for};

/// `osm explain`: all of it is allowed, or nothing.
const ALLOWED: i32 = 0;
const DENIED: i32 = 4;
const ERROR: i32 = 1;

pub(super) fn explanations_agree_with_the_traffic(choice: &Choice) -> Result<String> {
    let more = [service_account("shop", "thief"), idle_pod("shop", "thief")].concat();
    let lab = Lab::up(choice, &[&shop(), &more, SMI_MODE, &grant("client", "server")].concat())?;
    for pod in ["shop/server", "shop/client", "shop/thief"] {
        lab.wait_ready(pod)?;
    }
    wait_for("the grant lets the client in", || lab.pod("shop/client").get("http://server.shop/"))?;
    let said = lab.command(&["explain", "shop/client", "shop/server"])?;
    expect(&said, ALLOWED, &["TrafficTarget shop/client-to-server", "HTTPRouteGroup shop/everything"])?;

    ensure!(lab.pod("shop/thief").get("http://server.shop/").is_err(), "the thief was let in");
    let said = lab.command(&["explain", "shop/thief", "shop/server:80", "--method", "GET", "--path", "/"])?;
    expect(&said, DENIED, &["MeshConfig osm-system/osm-mesh-config", "a TrafficTarget", "shop/thief"])?;
    let said = lab.command(&["explain", "sa:shop/thief", "shop/server", "-o", "json"])?;
    let value: Value = serde_json::from_str(&said.stdout).context("reading the explanation")?;
    ensure!(value["verdict"] == "denied", "{value}");
    let said = lab.command(&["policy", "check-pods", "shop/client", "shop/server"])?;
    expect(&said, ALLOWED, &["shop/client", "shop/server"])?;
    let said = lab.command(&["policy", "check-pods", "shop/thief", "shop/server"])?;
    expect(&said, DENIED, &["shop/thief", "shop/server"])?;
    let said = lab.command(&["explain", "shop/gone", "shop/server"])?;
    expect(&said, DENIED, &["there is no Pod shop/gone"])?;

    lab.delete(&grant("client", "server"))?;
    let said = lab.command(&["explain", "shop/client", "shop/server"])?;
    expect(&said, DENIED, &["no policy grants"])?;
    Ok(String::new())
}

pub(super) fn proxies_are_looked_into(choice: &Choice) -> Result<String> {
    let outside = [plain_namespace("plain"), service_account("plain", "alone"), idle_pod("plain", "alone")].concat();
    let lab = Lab::up(choice, &[shop(), outside].concat())?;
    lab.wait_ready("shop/server")?;
    lab.wait_ready("shop/client")?;
    lab.wait_ready("plain/alone")?;
    wait_for("the server answers", || lab.pod("shop/client").get("http://server.shop/"))?;

    let dump = lab.command(&["proxy", "get", "config_dump", "shop/client"])?.success()?;
    let value: Value = serde_json::from_str(&dump).context("reading the configuration")?;
    ensure!(value["configs"].is_array() && dump.contains("server.shop"), "it holds no configuration: {dump}");
    ensure!(!dump.contains("PRIVATE KEY"), "a private key is shown");
    let said = lab.command(&["proxy", "get", "clusters", "client", "-n", "shop"])?.success()?;
    ensure!(said.contains("::health_flags::healthy"), "no healthy endpoint: {said}");
    let said = lab.command(&["proxy", "get", "stats?filter=ssl.handshake", "shop/client"])?.success()?;
    ensure!(said.lines().any(|line| line.contains("ssl.handshake")), "no handshake: {said}");
    let file = lab.path("stats.txt");
    lab.command(&["proxy", "get", "stats", "shop/client", "-f", file.to_str().context("a path")?])?.success()?;
    ensure!(std::fs::read_to_string(&file)?.contains("cluster_manager"), "the file holds no statistics");

    expect(&lab.command(&["proxy", "get", "stats", "shop/gone"])?, ERROR, &["there is no pod shop/gone"])?;
    expect(&lab.command(&["proxy", "get", "stats", "plain/alone"])?, ERROR, &["not in the mesh", "sidecar-injection"])?;
    let said = lab.command(&["proxy", "get", "quitquitquit", "shop/client"])?;
    ensure!(said.code != Some(0) && said.stderr.contains("config_dump"), "an unknown query: {said:?}");
    // Envoy's death is not the end of the answers.
    lab.pod("shop/client").kill_envoy()?;
    wait_for("the new Envoy is looked into", || lab.command(&["proxy", "get", "stats", "shop/client"])?.success())?;
    Ok(String::new())
}

fn expect(said: &Output, code: i32, words: &[&str]) -> Result<()> {
    ensure!(said.code == Some(code), "it ended with {:?}, not {code}: {said:?}", said.code);
    for word in words {
        ensure!(said.all().contains(word), "it does not say {word:?}: {}", said.all());
    }
    Ok(())
}
