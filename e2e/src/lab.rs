//! A lab: one mesh, with what one scenario puts into it, taken away with it. Where it is, its driver knows.

mod cluster;
mod command;
mod driver;
mod layer;
mod machine;
mod objects;
mod pod;
mod scripted;
mod startup;
mod status;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::Choice;
use cluster::Cluster;
pub(crate) use command::Output;
pub(crate) use command::run;
use driver::{CommandLine, Driver, Network};
pub(crate) use driver::{Place, Whose};
pub(crate) use layer::Layer;
use machine::Machine;
pub(crate) use pod::{LoadCounts, Pod};
pub(crate) use scripted::Scripts;
pub(crate) use startup::{Item, Startup};
use status::ServiceStatus;
pub(crate) use status::{JobStatus, PodStatus, Status};
pub(crate) use wait::{wait_for, with_deadline};

/// One mesh, from `up` to `down`.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    is_kept: bool,
    mesh: Mesh,
}

enum Mesh {
    Machine(Machine),
    Cluster(Cluster),
}

/// What a container says to its end, which may be the end of its pod.
pub(crate) struct Log {
    file: PathBuf,
    /// Who writes it down, where logs end with their pods.
    writer: Option<Background>,
}

/// A command in the background, killed when dropped.
pub(crate) struct Background {
    pub(crate) child: Child,
}

impl Lab {
    /// Brings up a mesh with these manifests and waits until its pods are ready.
    pub(crate) fn up(choice: &Choice, manifests: &str) -> Result<Lab> {
        Lab::up_with_images(choice, manifests, |_| Ok(String::new()))
    }

    /// The same in a network that has IPv6 too.
    pub(crate) fn up_with_ipv6(choice: &Choice, manifests: &str) -> Result<Lab> {
        Lab::bring_up(choice, manifests, Network::DualStack, |_| Ok(String::new()))
    }

    /// The same with more images, as lines of an images file; they may refer to files that are put into the lab's folder.
    pub(crate) fn up_with_images(
        choice: &Choice,
        manifests: &str,
        images: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<Lab> {
        Lab::bring_up(choice, manifests, Network::V4, images)
    }

    fn bring_up(
        choice: &Choice,
        manifests: &str,
        network: Network,
        images: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = machine::new_name(NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("osm-{name}"));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mesh = match choice.place {
            Place::Machine => {
                let without = choice.without.map(|layer| layer.image_without(&folder)).transpose()?;
                Mesh::Machine(Machine::new(&name, &folder, &(images(&folder)? + &without.unwrap_or_default())))
            }
            Place::Cluster => Mesh::Cluster(Cluster::default()),
        };
        let lab = Lab { name, folder, is_kept: choice.keep, mesh };
        lab.driver().up(&lab.write("first.yaml", manifests)?, network)?;
        Ok(lab)
    }

    fn driver(&self) -> &dyn Driver {
        match &self.mesh {
            Mesh::Machine(machine) => machine,
            Mesh::Cluster(cluster) => cluster,
        }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        match &self.mesh {
            Mesh::Machine(_) => Place::Machine,
            Mesh::Cluster(_) => Place::Cluster,
        }
    }

    fn machine(&self) -> Result<&Machine> {
        match &self.mesh {
            Mesh::Machine(machine) => Ok(machine),
            Mesh::Cluster(_) => bail!("this step is for the local driver only"),
        }
    }

    /// The cluster that this lab is on.
    fn cluster_driver(&self) -> Result<&Cluster> {
        match &self.mesh {
            Mesh::Cluster(cluster) => Ok(cluster),
            Mesh::Machine(_) => bail!("this step is for a cluster only"),
        }
    }

    /// Runs `osm local VERB --name LAB ARGUMENTS`.
    pub(crate) fn osm(&self, verb: &str, arguments: &[&str]) -> Result<Output> {
        self.machine()?.osm(verb, arguments)
    }

    /// Runs `osm ARGUMENTS --name LAB`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Output> {
        self.machine()?.command(arguments)
    }

    /// Runs `osm startup ARGUMENTS`, wherever the mesh is.
    pub(crate) fn startup(&self, arguments: &[&str]) -> Result<Output> {
        let words = [&["startup"], arguments].concat();
        match &self.mesh {
            Mesh::Machine(machine) => machine.command(&words),
            Mesh::Cluster(cluster) => cluster.cluster(&[&["exec", text(osm())], &words[..]].concat()),
        }
    }

    /// Runs `kubectl ARGUMENTS`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.cluster_driver()?.kubectl(arguments)
    }

    /// Runs `scripts/cluster ARGUMENTS`.
    pub(crate) fn cluster(&self, arguments: &[&str]) -> Result<Output> {
        self.cluster_driver()?.cluster(arguments)
    }

    /// Puts the controller's program where this lab's runner looks for it.
    pub(crate) fn place_controller(&self) -> Result<()> {
        self.machine()?.place_controller()
    }

    /// Puts a script in its place, in which `$CONTROLLER` is the controller and `$FOLDER` this lab's folder.
    pub(crate) fn place_script_for_controller(&self, line: &str) -> Result<()> {
        self.machine()?.remove_controller()?;
        self.machine()?.place_script_for_controller(line)
    }

    /// Takes it away: a controller that ends from here on stays down.
    pub(crate) fn remove_controller(&self) -> Result<()> {
        self.machine()?.remove_controller()
    }

    /// Ends the process that holds a pod's namespaces; on a cluster only.
    pub(crate) fn end_sandbox(&self, pod: &str) -> Result<()> {
        self.cluster_driver()?.signal(Whose::Pod(pod), "pause", "KILL")
    }

    /// Sends a signal to the agent of a pod. It is the first process of its container, so that only the node can stop it.
    pub(crate) fn signal_agent(&self, pod: &str, signal: &str) -> Result<()> {
        match &self.mesh {
            Mesh::Machine(machine) => {
                self.node(&["kill", &format!("-{signal}"), &machine.first_process(pod)?])?.success()?;
            }
            Mesh::Cluster(cluster) => cluster.signal(Whose::Pod(pod), "osm-sidecar", signal)?,
        }
        Ok(())
    }

    /// The log of a container that runs, to read when it has ended.
    pub(crate) fn log_to_its_end(&self, pod: &str, container: &str) -> Result<Log> {
        Ok(match &self.mesh {
            Mesh::Machine(_) => {
                let logs = Path::new("/run/osm-local").join(&self.name).join("logs");
                Log { file: logs.join(pod).join(format!("{container}.log")), writer: None }
            }
            Mesh::Cluster(cluster) => {
                let file = self.path(&format!("{}.{container}.log", pod.replace('/', ".")));
                let writer = Background::start_into(&cluster.log_as_it_comes(pod, container), &file)?;
                Log { file, writer: Some(writer) }
            }
        })
    }

    /// The path of `osm-demo` where it runs in pods.
    pub(crate) fn demo(&self) -> Result<String> {
        self.driver().demo()
    }

    /// Sends a signal to every process of a program in the mesh; an error if there is none.
    pub(crate) fn signal(&self, program: &str, signal: &str) -> Result<()> {
        self.driver().signal(Whose::Everybody, program, signal)
    }

    /// What a container has written so far.
    pub(crate) fn logs(&self, pod: &str, container: &str) -> Result<String> {
        Ok(self.driver().logs(pod, container)?.all())
    }

    /// Applies manifests; an error if any of them is not taken in.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        self.apply_file("apply.yaml", manifests)?.success().context("applying")?;
        Ok(())
    }

    /// Applies manifests under a file name of the scenario's choice, whatever comes of it.
    pub(crate) fn apply_file(&self, file: &str, manifests: &str) -> Result<Output> {
        self.driver().apply(&self.write(file, manifests)?)
    }

    /// Deletes the objects of manifests.
    pub(crate) fn delete(&self, manifests: &str) -> Result<()> {
        self.driver().delete(&self.write("delete.yaml", manifests)?)?.success().context("deleting")?;
        Ok(())
    }

    /// A pod by `namespace/name`.
    pub(crate) fn pod<'a>(&'a self, name: &'a str) -> Pod<'a> {
        Pod::new(self, name)
    }

    /// The pod of a Deployment with one replica, as `namespace/name`.
    pub(crate) fn pod_of(&self, deployment: &str) -> Result<String> {
        let pods = self.pods_of(deployment)?;
        ensure!(pods.len() == 1, "{deployment} has {} pods, not one", pods.len());
        Ok(pods[0].full_name())
    }

    /// The pods of a Deployment by its `namespace/name`, those that end included.
    pub(crate) fn pods_of(&self, deployment: &str) -> Result<Vec<PodStatus>> {
        let pods = self.status()?.pods.into_iter();
        Ok(pods.filter(|pod| pod.deployment.as_ref().is_some_and(|owner| owner.full_name() == deployment)).collect())
    }

    /// Waits until a Job is over, and gives it back with the pods that are left of it.
    pub(crate) fn wait_job_over(&self, job: &str) -> Result<(JobStatus, Vec<PodStatus>)> {
        wait_for(&format!("the Job {job} is over"), || {
            let status = self.status()?;
            let found = status.jobs.into_iter().find(|found| found.name == job).context("there is no such Job")?;
            ensure!(found.state == "Complete" || found.state == "Failed", "it is {found:?}");
            let is_its = |pod: &PodStatus| pod.job.as_ref().is_some_and(|owner| owner.name == job);
            Ok((found, status.pods.into_iter().filter(is_its).collect()))
        })
    }

    /// Waits until a pod is gone.
    pub(crate) fn wait_gone(&self, pod: &str) -> Result<()> {
        wait_for(&format!("{pod} is gone"), || {
            ensure!(self.status()?.pods.iter().all(|found| found.full_name() != pod), "it is there");
            Ok(())
        })
    }

    /// How everything is.
    pub(crate) fn status(&self) -> Result<Status> {
        self.driver().status()
    }

    /// Waits until the status of a pod satisfies a condition.
    pub(crate) fn wait_for(&self, pod: &str, what: &str, condition: impl Fn(&PodStatus) -> bool) -> Result<PodStatus> {
        wait_for(&format!("{pod} is {what}"), || {
            let status = self.status()?;
            let found = status.pods.into_iter().find(|p| p.full_name() == pod).context("there is no such pod")?;
            ensure!(condition(&found), "it is {found:?}");
            Ok(found)
        })
    }

    /// Waits until a pod is ready.
    pub(crate) fn wait_ready(&self, pod: &str) -> Result<PodStatus> {
        self.wait_for(pod, "ready", |status| status.ready)
    }

    /// The cluster address of a service by `namespace/name`.
    pub(crate) fn cluster_ip(&self, service: &str) -> Result<String> {
        self.service(service)?.cluster_ip.context("it has no address")
    }

    /// The URL of a service by `namespace/name`, with its address.
    pub(crate) fn url(&self, service: &str) -> Result<String> {
        Ok(format!("http://{}/", self.cluster_ip(service)?))
    }

    /// The IPv6 address of a service by `namespace/name`, as it stands in a URL.
    pub(crate) fn cluster_ipv6(&self, service: &str) -> Result<String> {
        let found = self.service(service)?;
        let mut addresses = found.cluster_ip.into_iter().chain(found.cluster_ips);
        Ok(format!("[{}]", addresses.find(|address| address.contains(':')).context("it has no IPv6 address")?))
    }

    fn service(&self, name: &str) -> Result<ServiceStatus> {
        let mut all = self.status()?.services.into_iter();
        all.find(|found| format!("{}/{}", found.namespace, found.name) == name)
            .with_context(|| format!("no service {name}"))
    }

    /// What the API server would make of a manifest; on a cluster only.
    pub(crate) fn dry_run(&self, manifest: &str) -> Result<String> {
        let file = self.write("try.yaml", manifest)?;
        self.kubectl(&["create", "--dry-run=server", "-o", "yaml", "-f", text(&file)])?.success()
    }

    /// Writes the packets that pass a filter into a file of this lab, a line for each, as they come. Its own limit ends it
    /// if the scenario fails half-way.
    pub(crate) fn listen(&self, filter: &str, file: &str) -> Result<Background> {
        let words = ["timeout", "120", "tcpdump", "--immediate-mode", "-l", "-n", "-i", "any", filter];
        self.node_into_file(&words, file)
    }

    /// The bridge on the router, or on the cluster's node, where everything passes that pods send.
    pub(crate) fn bridge(&self) -> &'static str {
        match &self.mesh {
            Mesh::Machine(_) => "osm0",
            Mesh::Cluster(_) => "cni0",
        }
    }

    /// Runs a command in the namespaces of the router, or of the cluster's node.
    pub(crate) fn node(&self, command: &[&str]) -> Result<Output> {
        self.node_line(command).run()
    }

    /// Starts a command in the namespaces of the router, or of the cluster's node.
    pub(crate) fn node_in_background(&self, command: &[&str]) -> Result<Background> {
        Background::start(&self.node_line(command))
    }

    /// The same, with what it prints in a file of this lab.
    fn node_into_file(&self, command: &[&str], file: &str) -> Result<Background> {
        Background::start_into(&self.node_line(command), &self.path(file))
    }

    fn node_line(&self, command: &[&str]) -> CommandLine {
        match &self.mesh {
            Mesh::Machine(machine) => machine.node(command),
            Mesh::Cluster(cluster) => cluster.node(command),
        }
    }

    /// A file of this lab.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The lab's name, as `--name` takes it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a file of this lab.
    pub(crate) fn write(&self, file: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(file);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        self.driver().down();
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Log {
    /// All of it. Its container must have ended, or be about to.
    pub(crate) fn finish(self) -> Result<String> {
        if let Some(writer) = self.writer {
            writer.finish()?.success().context("following a log")?;
        }
        fs::read_to_string(&self.file).with_context(|| format!("reading {}", self.file.display()))
    }
}

impl Background {
    fn start(line: &CommandLine) -> Result<Background> {
        Ok(Background { child: command::start(&line.program, &line.words())? })
    }

    fn start_into(line: &CommandLine, file: &Path) -> Result<Background> {
        Ok(Background { child: command::start_into(&line.program, &line.words(), file)? })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end and takes what it printed.
    pub(crate) fn finish(mut self) -> Result<Output> {
        command::finish(&mut self.child)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Already ended is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Refuses early, with the reason, what would fail late without one.
pub(crate) fn check_machine(place: Place) -> Result<()> {
    let user = run(Path::new("id"), &["-u"])?.success()?;
    ensure!(user.trim() == "0", "network namespaces need root; run it as root");
    for program in ["osm", "osm-controller", "osm-sidecar", "osm-demo", "osm-bookstore"] {
        let path = binary(program)?;
        ensure!(
            path.exists(),
            "{} is missing; build it with: cargo build --profile ci --workspace --bins",
            path.display()
        );
    }
    match place {
        Place::Machine => osm_testkit::find_envoy().map(|_| ()).context("Envoy is missing; ./test fetches it")?,
        Place::Cluster => cluster::check()?,
    }
    Ok(())
}

/// A program of ours, beside this one.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    Ok(own.parent().context("finding this program's folder")?.join(name))
}

fn osm() -> &'static Path {
    static OSM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    OSM.get_or_init(|| binary("osm").expect("check_machine found it"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of labs are made of ASCII")
}
