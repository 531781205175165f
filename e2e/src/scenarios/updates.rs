//! Changes reach proxies that already run, and touch only what they are about.

use anyhow::{Context, Result, ensure};

use super::manifests::{demo_pod, mesh_namespace, service, service_account};
use super::open_shop;
use crate::Choice;
use crate::lab::wait_for;

pub(super) fn a_cluster_update_takes_effect(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    let updates_before = client.stat("cluster_manager.cluster_updated")?;

    // A second pod behind the service, under another service account: the cluster must accept another identity.
    let second = [
        service_account("shop", "second"),
        demo_pod("shop", "second", "server", "serve, --port, '8080', --name, second"),
    ];
    lab.apply(&second.concat())?;
    lab.wait_ready("shop/second")?;
    wait_for("the second pod answers", || {
        let body = client.get("http://server.shop/")?;
        ensure!(body.contains("hello from second"), "{body}");
        Ok(())
    })?;
    for _ in 0..20 {
        client.get("http://server.shop/").context("both pods answer")?;
    }
    let updates = client.stat("cluster_manager.cluster_updated")? - updates_before;
    ensure!(updates > 0, "no cluster of the client's Envoy was updated");
    let warming = client.stat("cluster_manager.warming_clusters")?;
    ensure!(warming == 0, "{warming} clusters still wait to be used");
    let dump = client.admin("/config_dump")?;
    ensure!(dump.contains("second.shop.cluster.local"), "the new identity is not in the client's configuration");
    Ok(format!("{updates} cluster updated"))
}

pub(super) fn an_unrelated_change_touches_nothing(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    let keep = client.demo_in_background(&["keep", "http://server.shop/", "--seconds", "6"])?;

    // Services on the very port of the open connection, in another namespace and in the same one, come and go.
    let mut changes = 0;
    for round in 0..3 {
        let name = format!("other-{round}");
        let other = [
            mesh_namespace("elsewhere"),
            service_account("elsewhere", &name),
            service("elsewhere", &name, "{name: http, port: 80, targetPort: 8080}"),
            service("shop", &name, "{name: http, port: 80, targetPort: 8080}, {name: tcp-x, port: 81}"),
            demo_pod("elsewhere", &name, &name, "serve, --port, '8080', --name, other"),
        ];
        lab.apply(&other.concat())?;
        lab.wait_ready(&format!("elsewhere/{name}"))?;
        wait_for("the other service answers", || client.get(&format!("http://{name}.elsewhere/")))?;
        lab.delete(&other[1..].concat())?;
        changes += 2;
    }
    let said = keep.finish()?.success().context("the connection that was open all the time")?;
    Ok(format!("{changes} changes, {}", said.trim()))
}
