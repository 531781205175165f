//! Bad policies and settings: named by file, object and field; nobody gets in by them, and what worked goes on.

use anyhow::{Context, Result, ensure};

use super::manifests::{SMI_MODE, grant, idle_pod, service, service_account, shop};
use crate::Choice;
use crate::lab::{Lab, wait_for};

const SERVER: &str = "http://server.shop/";

/// Bad documents that would let the thief in if they were right, and the words that the message about each must hold.
const BAD: &[(&str, &[&str])] = &[
    (
        "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: no-such-routes, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: ServiceAccount, name: thief, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: gone}]",
        &["TrafficTarget shop/no-such-routes", "spec.rules[0].name", "there is no HTTPRouteGroup shop/gone"],
    ),
    (
        "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: no-such-match, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: ServiceAccount, name: thief, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: everything, matches: [nothing]}]",
        &["TrafficTarget shop/no-such-match", "spec.rules[0].matches[0]", "nothing"],
    ),
    (
        "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: no-such-account, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: nobody, namespace: shop}
  sources: [{kind: ServiceAccount, name: thief, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: everything, matches: [all]}]",
        &["TrafficTarget shop/no-such-account", "spec.destination.name", "there is no ServiceAccount shop/nobody"],
    ),
    (
        "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: a-group, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: Group, name: thief, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: everything, matches: [all]}]",
        &["TrafficTarget shop/a-group", "spec.sources[0].kind", "Group"],
    ),
    (
        "apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: unclosed, namespace: shop}
spec: {matches: [{name: all, pathRegex: '/(', methods: ['*']}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: unclosed, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: ServiceAccount, name: thief, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: unclosed}]",
        &["HTTPRouteGroup shop/unclosed", "spec.matches[0].pathRegex", "unclosed group"],
    ),
    // Overlaps with the good grant for the client: together they grant what the good one does.
    (
        "apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: overlapping, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: ServiceAccount, name: client, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: everything}, {kind: UDPRoute, name: everything}]",
        &["TrafficTarget shop/overlapping", "spec.rules[1].kind", "UDPRoute"],
    ),
    (
        "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false, enableEverything: true}}",
        &["MeshConfig osm-system/osm-mesh-config", "spec.traffic.enableEverything"],
    ),
    (
        "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false, outboundPortExclusionList: [70000]}}",
        &["MeshConfig osm-system/osm-mesh-config", "spec.traffic.outboundPortExclusionList[0]", "70000"],
    ),
    (
        "apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: perhaps}}",
        &["MeshConfig osm-system/osm-mesh-config", "spec.traffic.enablePermissiveTrafficPolicyMode"],
    ),
];

pub(super) fn bad_policies_admit_nobody(choice: &Choice) -> Result<String> {
    let thief = [service_account("shop", "thief"), idle_pod("shop", "thief")].concat();
    let lab = Lab::up(choice, &[&shop(), &thief, SMI_MODE, &grant("client", "server")].concat())?;
    for pod in ["shop/server", "shop/client", "shop/thief"] {
        lab.wait_ready(pod)?;
    }
    let client = lab.pod("shop/client");
    wait_for("the grant lets the client in", || client.get(SERVER))?;
    refuses_the_thief(&lab)?;

    for (index, (document, words)) in BAD.iter().enumerate() {
        // Once this one answers, the server's Envoy has what was applied with it.
        let (host, ports) = (format!("good-{index}"), "{name: http, port: 80, targetPort: 8080}");
        let good = service("shop", &host, ports).replace(&format!("{{app: {host}}}"), "{app: server}");
        let said = lab.apply_file("bad.yaml", &format!("{document}\n{good}"))?.all();
        for word in [&["bad.yaml"], *words].concat() {
            ensure!(said.contains(word), "the message about\n{document}\ndoes not hold {word:?}:\n{said}");
        }
        ensure!(!said.contains("panicked"), "{said}");
        wait_for("the good object beside the bad one counts", || client.get(&format!("http://{host}.shop/")))?;
        client.get(SERVER).with_context(|| format!("what worked before\n{document}"))?;
        refuses_the_thief(&lab).with_context(|| format!("with\n{document}"))?;
    }
    let status = lab.osm("status", &["-o", "json"])?.success()?;
    for named in ["TrafficTarget shop/no-such-routes", "HTTPRouteGroup shop/unclosed"] {
        ensure!(status.contains(named), "the status does not tell of {named}: {status}");
    }

    // What was missing is added: now the grant is one, so it was the bad input that kept the thief out.
    let routes = grant("thief", "server").replace("name: everything", "name: gone");
    let (routes, _) = routes.split_once("---\napiVersion: access").context("the routes come first")?;
    lab.apply(routes)?;
    wait_for("the corrected grant lets the thief in", || lab.pod("shop/thief").get(SERVER))?;
    Ok(format!("{} bad documents", BAD.len()))
}

fn refuses_the_thief(lab: &Lab) -> Result<()> {
    let answer = lab.pod("shop/thief").exec_demo(&["once", SERVER])?.all();
    ensure!(answer.contains("status 403"), "the thief is not refused: {answer}");
    Ok(())
}
