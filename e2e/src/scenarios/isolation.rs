//! The sidecar is out of the application's reach, whatever uid the application has in its container.

use anyhow::{Context, Result, ensure};

use super::open_shop;
use crate::Choice;
use crate::lab::Lab;

/// What an application tries, each with what must not come of it. Run by `sh`, first as root, then as uid 1000.
const TRIES: &[(&str, &str)] = &[
    ("stop Envoy or the agent", "pkill -9 -x envoy || pkill -9 -x osm-sidecar"),
    ("see a process of the sidecar", "pgrep -x envoy || pgrep -x osm-sidecar"),
    ("find the sidecar's folder", "ls /run/osm/* 2>/dev/null | grep ."),
    ("find the sidecar's token", "cat /run/secrets/osm/token"),
    ("find the folder through a process", "ls /proc/[0-9]*/root/run/osm/agent/xds.sock"),
    ("find an abstract socket of the sidecar", "grep -a '@' /proc/net/unix"),
];

pub(super) fn the_sidecar_is_out_of_reach(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let client = lab.pod("shop/client");
    let before = client.startup()?;

    for user in [&[][..], &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--"][..]] {
        for (what, script) in TRIES {
            let output = client.exec(&[user, &["sh", "-c", script]].concat())?;
            ensure!(output.code != Some(0), "an application ({user:?}) can {what}: {}", output.all());
        }
    }
    another_uid_of_the_node_is_refused(&lab)?;
    the_admin_ports_give_no_secret_and_take_no_order(&lab)?;

    let after = client.startup()?;
    ensure!(before["envoyRestarts"] == after["envoyRestarts"], "Envoy was restarted by one of the tries: {after}");
    client.get("http://server.shop/").context("after all tries")?;
    Ok(format!("{} tries, twice each", TRIES.len()))
}

/// The same with the process numbers visible, so that nothing but the uid stands in the way.
fn another_uid_of_the_node_is_refused(lab: &Lab) -> Result<()> {
    let found = lab.node(&["pgrep", "-x", "envoy"])?.success()?;
    let envoy = found.lines().next().context("no Envoy runs")?;
    let tries = [
        ("signal Envoy", format!("kill -9 {envoy}")),
        ("read Envoy's environment", format!("cat /proc/{envoy}/environ")),
        ("read Envoy's memory", format!("head -c 1 /proc/{envoy}/mem")),
        ("enter the sidecar's root", format!("ls /proc/{envoy}/root/run/osm")),
    ];
    for (what, script) in &tries {
        let output =
            lab.node(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--", "sh", "-c", script])?;
        ensure!(output.code != Some(0), "uid 1000 can {what}: {}", output.all());
    }
    // As root the sockets are there, with modes that keep every other uid out: the tries above failed for the right reason.
    let modes = lab.node(&["sh", "-c", &format!("find /proc/{envoy}/root/run/osm/agent -printf '%m %U %p\n'")])?;
    let listing = modes.success()?;
    ensure!(listing.contains("xds.sock"), "the socket of xDS is not where it should be: {listing}");
    for line in listing.lines() {
        let mut words = line.split(' ');
        let (mode, owner) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        ensure!(mode.ends_with("00") && owner == "1500", "others may open {line}");
    }
    Ok(())
}

fn the_admin_ports_give_no_secret_and_take_no_order(lab: &Lab) -> Result<()> {
    let client = lab.pod("shop/client");
    let dump = client.admin("/config_dump")?;
    ensure!(dump.contains("service-cert"), "the dump does not hold the certificate's name");
    ensure!(!dump.contains("PRIVATE KEY"), "the dump holds a private key");
    for order in ["/quitquitquit", "/logging", "/runtime_modify", "/drain_listeners", "/healthcheck/fail"] {
        let answer = client.admin(order);
        ensure!(answer.is_err(), "the admin port carried out {order}: {answer:?}");
    }
    Ok(())
}
