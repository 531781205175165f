//! Bad input: named, and nothing else is harmed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::manifests::{once_pod, service, service_account, shop};
use crate::Choice;
use crate::lab::{Lab, PodStatus, wait_for};

/// One bad document, and the words that the message about it must hold.
const BAD: &[(&str, &[&str])] = &[
    ("kind: [unclosed", &["bad.yaml", "not YAML"]),
    ("just a text", &["bad.yaml", "not an object"]),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: typed, namespace: shop}\nspec: {ports: [{port: eighty}]}",
        &["Service shop/typed", "spec.ports[0].port"],
    ),
    ("apiVersion: v1\nkind: Gadget\nmetadata: {name: g, namespace: shop}", &["Gadget", "not read"]),
    (
        "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: old, namespace: shop}",
        &["apps/v1beta1", "use apps/v1"],
    ),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: twice, namespace: shop}\nspec: {selector: {a: b}, ports: [{port: 1}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: twice, namespace: shop}\nspec: {selector: {a: b}, ports: [{port: 2}]}",
        &["Service shop/twice", "second time"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: shop}\nspec: {hostNetwork: true, containers: [{name: a, image: osm-demo}]}",
        &["Pod shop/host", "hostNetwork"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bypass, namespace: shop}\nspec: {containers: [{name: a, image: osm-demo, securityContext: {runAsUser: 1500}}]}",
        &["Pod shop/bypass", "1500"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: unknown-image, namespace: shop}\nspec: {containers: [{name: a, image: no/such:image}]}",
        &["Pod shop/unknown-image", "no/such:image"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: nowhere, namespace: no-such-namespace}\nspec: {containers: [{name: a, image: osm-demo}]}",
        &["Pod no-such-namespace/nowhere", "namespace"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: ../../escape, namespace: shop}\nspec: {containers: [{name: a, image: osm-demo}]}",
        &["metadata.name"],
    ),
];

pub(super) fn bad_input_is_named(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    lab.wait_ready("shop/client")?;
    for (index, (document, words)) in BAD.iter().enumerate() {
        let good = service("shop", &format!("good-{index}"), "{name: http, port: 80, targetPort: 8080}")
            .replace(&format!("{{app: good-{index}}}"), "{app: server}");
        let output = lab.apply_file("bad.yaml", &format!("{document}\n{good}"))?;
        let said = output.all();
        for word in *words {
            ensure!(said.contains(word), "the message about\n{document}\ndoes not hold {word:?}:\n{said}");
        }
        ensure!(!said.contains("panicked"), "{said}");
        let client = lab.pod("shop/client");
        wait_for("the good object beside the bad one counts", || client.get(&format!("http://good-{index}.shop/")))?;
    }
    let problems = lab.osm("status", &["-o", "json"])?.success()?;
    ensure!(problems.contains("bypass"), "the status does not tell of the refused pod");
    let empty = service("shop", "nobody", "{name: http, port: 80}");
    lab.apply(&empty)?;
    let answer = lab.pod("shop/client").get("http://nobody.shop/");
    ensure!(answer.is_err(), "a service without pods answered: {answer:?}");
    Ok(format!("{} bad documents", BAD.len()))
}

pub(super) fn ten_thousand_objects(choice: &Choice) -> Result<String> {
    let lab = Lab::up(choice, &shop())?;
    lab.wait_ready("shop/server")?;
    let many: String = (0..5_000)
        .map(|i| {
            let account = service_account("shop", &format!("account-{i}"));
            account + &service("shop", &format!("many-{i}"), "{name: http, port: 80, targetPort: 8080}")
        })
        .collect();
    let start = Instant::now();
    lab.apply(&many)?;
    let applied = start.elapsed();
    let pod = once_pod("after-many", "");
    lab.apply(&pod)?;
    let status = lab.wait_for("shop/after-many", "over", PodStatus::is_over)?;
    ensure!(status.phase == "Succeeded", "a pod among ten thousand objects ended {}", status.phase);
    let last =
        service("shop", "last", "{name: http, port: 80, targetPort: 8080}").replace("{app: last}", "{app: server}");
    lab.apply(&last)?;
    lab.wait_ready("shop/client")?;
    wait_for("the last service answers", || lab.pod("shop/client").get("http://last.shop/"))
        .context("after 10,000 objects")?;
    Ok(format!(
        "taken in within {:.1} s; the pod was over {:.1} s after",
        applied.as_secs_f64(),
        (start.elapsed() - applied).as_secs_f64()
    ))
}
