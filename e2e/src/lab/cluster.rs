//! The driver for a real Kubernetes: the cluster of `scripts/cluster`, on which `osm install` has brought a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use osm_testkit::in_checkout;
use serde_json::Value;

use super::driver::{CommandLine, Driver, Network, Whose};
use super::objects::{pods_of, status_of};
use super::{Output, Status, run, text, wait_for};

/// Where the images of this project have their programs.
const DEMO: &str = "/usr/local/bin/osm-demo";

/// The namespace of the control plane.
const CONTROL_PLANE: &str = "osm-system";

/// What every scenario begins with.
const PERMISSIVE: &str = r#"{"spec":{"traffic":{"enablePermissiveTrafficPolicyMode":true,"enableEgress":false}}}"#;

/// A mesh on a cluster, with namespaces that come and go with a lab.
#[derive(Default)]
pub(crate) struct Cluster {
    namespaces: Mutex<BTreeSet<String>>,
    /// The uids of pods that were looked into, by their names; a pod made anew under a name has another one.
    uids: Mutex<BTreeMap<String, String>>,
}

impl Cluster {
    /// Runs `kubectl ARGUMENTS`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.line(&[&["kubectl"], arguments].concat()).run()
    }

    /// Runs `scripts/cluster ARGUMENTS`.
    pub(crate) fn cluster(&self, arguments: &[&str]) -> Result<Output> {
        self.line(arguments).run()
    }

    /// What runs a command in the namespaces of the node.
    pub(crate) fn node(&self, command: &[&str]) -> CommandLine {
        self.line(&[&["node"], command].concat())
    }

    /// What prints what a container says, from its start to its end.
    pub(super) fn log_as_it_comes(&self, pod: &str, container: &str) -> CommandLine {
        let (namespace, name) = split(pod);
        self.line(&["kubectl", "logs", "--follow", "-n", namespace, name, "-c", container])
    }

    fn line(&self, arguments: &[&str]) -> CommandLine {
        CommandLine::new(&script(), arguments)
    }

    fn get(&self, kinds: &str, more: &[&str]) -> Result<Value> {
        let said = self.kubectl(&[&["get", kinds, "-o", "json"], more].concat())?.success()?;
        serde_json::from_str(&said).with_context(|| format!("reading the {kinds}"))
    }

    /// Waits until every pod of the lab is ready or has ended.
    fn wait_settled(&self) -> Result<()> {
        wait_for("the pods are ready", || {
            let status = self.status()?;
            let namespaces = self.namespaces.lock().expect("nobody panics while holding it");
            let ours = status.pods.iter().filter(|pod| namespaces.contains(&pod.namespace));
            for pod in ours {
                ensure!(pod.ready || pod.is_over(), "{} is not: {pod:?}", pod.full_name());
            }
            let deployments = self.get("deployments", &["-A"])?;
            for deployment in deployments["items"].as_array().into_iter().flatten() {
                let (wanted, there) = (&deployment["spec"]["replicas"], &deployment["status"]["readyReplicas"]);
                ensure!(wanted == there, "{} has {there} of {wanted} pods", deployment["metadata"]["name"]);
            }
            Ok(())
        })
    }
}

impl Driver for Cluster {
    fn up(&self, manifests: &Path, network: Network) -> Result<()> {
        if network == Network::DualStack {
            let node = self.get("nodes", &[])?["items"][0]["status"]["addresses"].to_string();
            ensure!(node.contains("fd00:"), "the cluster has no IPv6, because this machine had none: {node}");
        }
        self.kubectl(&[
            "patch",
            "meshconfig",
            "osm-mesh-config",
            "-n",
            CONTROL_PLANE,
            "--type=merge",
            "-p",
            PERMISSIVE,
        ])?
        .success()
        .context("setting the mesh back to what every scenario begins with")?;
        self.apply(manifests)?.success().context("kubectl apply")?;
        self.wait_settled()
    }

    fn down(&self) {
        let namespaces = self.namespaces.lock().expect("nobody panics while holding it");
        let names: Vec<&str> = namespaces.iter().map(String::as_str).filter(|name| *name != CONTROL_PLANE).collect();
        // Kubernetes looks at a namespace with pods that end only every quarter of a minute, so they end at once, before it.
        for name in &names {
            let all = ["--all", "--wait=false", "--namespace", name];
            self.kubectl(&[&["delete", "deployments,jobs"][..], &all].concat()).ok();
            self.kubectl(&[&["delete", "pods", "--grace-period=1"][..], &all].concat()).ok();
        }
        // There is nobody to tell; what is left over makes the next scenario fail, which says so.
        self.kubectl(&[&["delete", "namespace", "--ignore-not-found", "--timeout=60s"], &names[..]].concat()).ok();
    }

    fn apply(&self, file: &Path) -> Result<Output> {
        for_the_cluster(file)?;
        let output = self.kubectl(&["apply", "-f", text(file)])?;
        let mut namespaces = self.namespaces.lock().expect("nobody panics while holding it");
        let names = output.stdout.lines().filter_map(|line| line.strip_prefix("namespace/")?.split(' ').next());
        namespaces.extend(names.map(str::to_owned));
        Ok(output)
    }

    fn delete(&self, file: &Path) -> Result<Output> {
        for_the_cluster(file)?;
        self.kubectl(&["delete", "--ignore-not-found", "--timeout=60s", "-f", text(file)])
    }

    fn exec(&self, pod: &str, container: Option<&str>, command: &[&str]) -> CommandLine {
        let (namespace, name) = split(pod);
        let container = container.map(|container| vec!["-c", container]).unwrap_or_default();
        let kubectl = ["kubectl", "exec", "-n", namespace, name];
        self.line(&[&kubectl[..], &container, &["--"], command].concat())
    }

    /// Not through the API server and the kubelet, which take a while on a busy machine: this machine sees the cluster's
    /// processes.
    fn run_demo(&self, pod: &str, arguments: &[&str]) -> Result<CommandLine> {
        let Ok(process) = self.process(pod, "osm-demo") else {
            return Ok(self.exec(pod, None, &[&[DEMO], arguments].concat()));
        };
        let enter = ["--target", &process, "--mount", "--net", "--", DEMO];
        Ok(CommandLine::new(Path::new("nsenter"), &[&enter[..], arguments].concat()))
    }

    fn logs(&self, pod: &str, container: &str) -> Result<Output> {
        let (namespace, name) = split(pod);
        self.kubectl(&["logs", "-n", namespace, name, "-c", container])
    }

    fn status(&self) -> Result<Status> {
        status_of(&self.get("pods,jobs,services", &["-A"])?, CONTROL_PLANE)
    }

    fn demo(&self) -> Result<String> {
        Ok(DEMO.to_owned())
    }

    fn signal(&self, whose: Whose<'_>, program: &str, signal: &str) -> Result<()> {
        let processes = match whose {
            Whose::Pod(pod) => vec![self.process(pod, program)?],
            Whose::Everybody => {
                let found = run(Path::new("pgrep"), &["-x", program])?.success()?;
                let all: Vec<String> = found.lines().map(str::to_owned).collect();
                let of_pods = pods_of(&self.get("pods", &["-A"])?);
                all.into_iter().filter(|process| of_pods.iter().any(|(_, uid)| belongs(process, uid))).collect()
            }
        };
        ensure!(!processes.is_empty(), "no {program} runs in a pod");
        for process in processes {
            run(Path::new("kill"), &[&format!("-{signal}"), &process])?.success()?;
        }
        Ok(())
    }

    fn kill_sidecar(&self, pod: &str) -> Result<()> {
        self.signal(Whose::Pod(pod), "osm-sidecar", "KILL")
    }

    fn process(&self, pod: &str, program: &str) -> Result<String> {
        let known = self.uids.lock().expect("nobody panics while holding it").get(pod).cloned();
        if let Some(process) = known.and_then(|uid| process_of(&uid, program).ok()) {
            return Ok(process);
        }
        let all = self.get("pods", &["-A"])?;
        let (_, uid) = pods_of(&all).into_iter().find(|(name, _)| name == pod).context("there is no such pod")?;
        self.uids.lock().expect("nobody panics while holding it").insert(pod.to_owned(), uid.clone());
        process_of(&uid, program).with_context(|| format!("looking into {pod}"))
    }
}

/// Refuses early, with the reason, what would fail late without one.
pub(super) fn check() -> Result<()> {
    let cluster = Cluster::default();
    cluster.kubectl(&["get", "nodes"])?.success().context("no cluster is up; scripts/cluster up brings one up")?;
    let mesh = cluster.kubectl(&["get", "meshconfig", "osm-mesh-config", "-n", CONTROL_PLANE])?.success();
    mesh.context("the cluster has no mesh; install one: scripts/cluster exec target/ci/osm install")?;
    Ok(())
}

/// The process of a program in the pod with this uid.
fn process_of(uid: &str, program: &str) -> Result<String> {
    let found = run(Path::new("pgrep"), &["-x", program])?.stdout;
    let mut of_pod = found.lines().filter(|process| belongs(process, uid));
    Ok(of_pod.next().with_context(|| format!("no {program} runs there"))?.to_owned())
}

/// Whether a process of this machine is of the pod with this uid: the kubelet names cgroups after them.
fn belongs(process: &str, uid: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|cgroups| cgroups.contains(&format!("pod{uid}")))
}

/// Makes a scenario's manifests name images that the cluster has; they have no `sleep`.
fn for_the_cluster(file: &Path) -> Result<()> {
    let written = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let adapted = written
        .replace("image: osm-demo", "image: openservicemesh/osm-demo:latest-main")
        .replace("command: [sleep, infinity]", "args: [serve, --port, '9999', --name, idle]");
    fs::write(file, adapted).with_context(|| format!("writing {}", file.display()))
}

fn split(pod: &str) -> (&str, &str) {
    pod.split_once('/').expect("scenarios name pods as namespace/name")
}

/// `scripts/cluster`; of the folder that this was started in, if this program was taken out of its checkout.
fn script() -> PathBuf {
    in_checkout("scripts/cluster").unwrap_or_else(|| PathBuf::from("./scripts/cluster"))
}
