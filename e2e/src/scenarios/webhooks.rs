//! Another product's webhook changes pods of the mesh after ours has. It runs in the cluster, as such products do.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::closed::Opened;
use super::manifests::{demo_pod, plain_namespace, service_account};
use super::open_shop;
use crate::Choice;
use crate::lab::{Background, Lab, PodStatus, wait_for};

/// Its address in the cluster.
const NAME: &str = "another-webhook.plain.svc";

/// What it does, by the path under which it is asked, and who refuses that in which words: the mesh, or the API server
/// itself, which finds probes that only a native sidecar may have.
const MEDDLING: [(&str, &str); 2] = [
    ("first", "container stranger comes before osm-init, so its connections go past the mesh"),
    ("strip", "may not be set for init containers without restartPolicy=Always"),
];

/// The packets' file.
const HEARD: &str = "heard.txt";

/// Who is asked once is repaired. Who is asked again after us has the last word, and then there is no pod.
pub(super) fn another_webhook_changes_the_order(choice: &Choice) -> Result<String> {
    let lab = open_shop(choice)?;
    let _another = AnotherWebhook::install(&lab)?;
    let mut capture = listen(&lab)?;
    for (path, _) in MEDDLING {
        is_repaired(&lab, path)?;
    }
    let words: Vec<String> = MEDDLING.iter().map(|(path, what)| is_refused(&lab, path, what)).collect::<Result<_>>()?;
    a_job_says_why(&lab)?;
    // Where nobody looks, it is made, and asks in plain text: the others would have been heard too.
    let _opened = Opened::without_a_look_at_the_order(&lab)?;
    wait_for("the pod is made", || lab.apply(&pod("unwatched", "first-last")))?;
    let address = wait_for("the pod has an address", || {
        let unwatched = lab.wait_for("shop/unwatched", "there", |_| true)?;
        unwatched.ip.context("it has none")
    })?;
    let heard = wait_for("it is heard", || {
        ensure!(!capture.has_ended()?, "tcpdump has ended");
        let heard = fs::read_to_string(lab.path(HEARD))?;
        ensure!(heard.contains(&format!("IP {address}.")), "it is not");
        Ok(heard)
    })?;
    lab.node(&["pkill", "-x", "tcpdump"])?.success()?;
    let others: Vec<&str> = heard.lines().filter(|line| !line.contains(&address)).collect();
    ensure!(others.is_empty(), "pods of the mesh asked in plain text: {others:?}");
    Ok(format!("asked once, it is repaired; with the last word: {}", words.join("; ")))
}

/// The pod is as if nobody had meddled, and what was put into it is meshed too.
fn is_repaired(lab: &Lab, path: &str) -> Result<()> {
    let name = format!("{path}-once");
    lab.apply(&pod(&name, &name))?;
    let status = lab.wait_for(&format!("shop/{name}"), "over", PodStatus::is_over)?;
    let names: Vec<&str> = status.containers.iter().map(|container| container.name.as_str()).collect();
    let expected: &[&str] =
        if path == "first" { &["osm-init", "envoy", "stranger", "once"] } else { &["osm-init", "envoy", "once"] };
    ensure!(names == expected, "the containers are {names:?}");
    for own in &expected[2..] {
        ensure!(status.exit_code(own) == Some(0), "{own} failed: {}", lab.logs(&format!("shop/{name}"), own)?);
    }
    Ok(())
}

/// There is no such pod, and who makes it is told who the culprit is; the words.
fn is_refused(lab: &Lab, path: &str, what: &str) -> Result<String> {
    let name = format!("{path}-last");
    let said = lab.apply_file("last.yaml", &pod(&name, &name))?;
    ensure!(said.code != Some(0), "{name} was made: {:?}", lab.status()?.pods.iter().find(|pod| pod.name == name));
    ensure!(said.stderr.contains(what), "it says {}", said.stderr);
    let words = said.stderr.split("denied the request: ").last().unwrap_or_default();
    Ok(words.trim().to_owned())
}

/// Who makes pods by a Job reads it where every other reason is.
fn a_job_says_why(lab: &Lab) -> Result<()> {
    lab.apply(JOB)?;
    wait_for("osm startup names the culprit", || {
        let said = lab.startup(&["shop/job-last"])?.all();
        ensure!(said.contains("order-changed") && said.contains("stranger"), "it says {said}");
        Ok(())
    })?;
    // It would try again.
    lab.delete(JOB)
}

/// Hears requests in plain text that reach the node from pods.
fn listen(lab: &Lab) -> Result<Background> {
    // The first four bytes behind the header of TCP are `GET `.
    let filter = "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420 and (dst port 80 or dst port 8080)";
    lab.listen(filter, HEARD)
}

/// Another webhook beside ours, as long as it lives. It is called after ours: by the alphabet.
struct AnotherWebhook<'a>(&'a Lab);

impl<'a> AnotherWebhook<'a> {
    fn install(lab: &'a Lab) -> Result<AnotherWebhook<'a>> {
        let program = demo_pod("plain", "another-webhook", "another-webhook", &format!("meddle, --name, {NAME}"));
        lab.apply(
            &[plain_namespace("plain"), service_account("plain", "another-webhook"), program, SERVICE.into()].concat(),
        )?;
        lab.apply(&service_account("plain", "client"))?;
        lab.wait_ready("plain/another-webhook")?;
        let bundle = wait_for("it prints its certificate", || {
            let said = lab.logs("plain/another-webhook", "main")?;
            let bundle = said.split("caBundle ").nth(1).context("it has not yet")?;
            Ok(bundle.trim().to_owned())
        })?;
        let another = AnotherWebhook(lab);
        lab.apply(&configuration(&bundle))?;
        wait_for("it is asked", || {
            ensure!(lab.dry_run(&pod("try", "first-once"))?.contains("stranger"), "it is not yet");
            Ok(())
        })?;
        Ok(another)
    }
}

impl Drop for AnotherWebhook<'_> {
    fn drop(&mut self) {
        // There is nobody to tell; the next scenario's pods do not have its labels.
        self.0.kubectl(&["delete", "mutatingwebhookconfiguration", "zz-another-webhook"]).ok();
    }
}

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: another-webhook, namespace: plain}
spec:
  selector: {app: another-webhook}
  ports: [{port: 443, targetPort: 8443}]
";

const JOB: &str = "---
apiVersion: batch/v1
kind: Job
metadata: {name: job-last, namespace: shop}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {meddle: first-last}}
    spec:
      serviceAccountName: client
      restartPolicy: Never
      containers: [{name: once, image: osm-demo, args: [once, 'http://server.shop/']}]
";

/// One webhook for each thing that it does, and for whether it is asked again; pods choose by their label.
fn configuration(bundle: &str) -> String {
    let webhook = |path: &str, again: &str, policy: &str| {
        format!(
            "- name: {path}-{again}.example.org
  clientConfig: {{caBundle: {bundle}, service: {{name: another-webhook, namespace: plain, path: /{path}}}}}
  objectSelector: {{matchLabels: {{meddle: {path}-{again}}}}}
  namespaceSelector: {{matchLabels: {{openservicemesh.io/monitored-by: osm}}}}
  rules: [{{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}}]
  reinvocationPolicy: {policy}
  sideEffects: None
  admissionReviewVersions: [v1]
"
        )
    };
    let webhooks: String =
        MEDDLING.iter().map(|(path, _)| webhook(path, "once", "Never") + &webhook(path, "last", "IfNeeded")).collect();
    format!(
        "---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: zz-another-webhook}}
webhooks:
{webhooks}"
    )
}

/// A pod that asks once and is never restarted; the other webhook does to it what its label says.
fn pod(name: &str, meddle: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{meddle: {meddle}}}}}
spec:
  serviceAccountName: client
  restartPolicy: Never
  containers: [{{name: once, image: osm-demo, args: [once, 'http://server.shop/']}}]
"
    )
}
