//! What else of a runner can be had from outside: what listens inside its pods, and the objects that it publishes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, Response};
use nix::sched::{CloneFlags, setns};
use osm_api::{Kind, NamespacedName};
use osm_runtime::http;

use crate::control::ManifestText;
use crate::host::{Failure, Local};
use crate::publish::is_file_of;
use crate::state_dir::RunnerProcess;

/// Whoever listens inside a pod answers a handshake at once; more is a pod that is stuck.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The kinds of policies and settings.
pub const POLICY_KINDS: [Kind; 4] = [Kind::MeshConfig, Kind::HttpRouteGroup, Kind::TcpRoute, Kind::TrafficTarget];

impl Local {
    /// `GET` of `uri`, path and query, from what listens at `address` inside a pod: an address of its loopback too.
    ///
    /// # Errors
    /// When there is no such pod, nothing of it runs, nobody listens there, or no answer comes within the limits.
    pub async fn get_in_pod(
        &self,
        pod: &NamespacedName,
        address: SocketAddr,
        uri: &str,
        limits: http::Limits,
    ) -> anyhow::Result<Response<Bytes>> {
        let stream = self.connect_in_pod(pod, address).await?;
        stream.set_nonblocking(true).context("preparing the connection")?;
        let stream = tokio::net::TcpStream::from_std(stream).context("preparing the connection")?;
        let request = Request::get(uri).header(HOST, address.to_string()).body(Full::default());
        let request = request.with_context(|| format!("{uri:?} cannot be asked for"))?;
        let answer = tokio::time::timeout(limits.timeout, http::exchange(stream, request, limits)).await;
        let answer = answer.map_err(|_| anyhow!("no answer within {:?}", limits.timeout)).and_then(|a| Ok(a?));
        answer.with_context(|| format!("asking {address} in pod {pod}"))
    }

    /// The objects as the controller sees them at this moment, each as one text.
    ///
    /// # Errors
    /// When the runner does not run, or they cannot be read.
    pub async fn published_objects(&self) -> anyhow::Result<Vec<ManifestText>> {
        // Whoever does not run says so, with what to do.
        self.status().await?;
        let process = self.process()?;
        // In memory that only the runner's own mount namespace shows.
        let inside = self.state().objects();
        let folder = inside_of(&process, &inside);
        tokio::task::spawn_blocking(move || read_all(&folder).context("reading the runner's objects")).await?
    }

    /// Whether there are policies or settings among the objects that the controller sees.
    ///
    /// # Errors
    /// When the runner does not run, or they cannot be listed.
    pub fn publishes_policies(&self) -> anyhow::Result<bool> {
        let folder = inside_of(&self.process()?, &self.state().objects());
        let entries = fs::read_dir(folder).context("listing the runner's objects")?;
        let is_policy = |name: &str| POLICY_KINDS.iter().any(|kind| is_file_of(*kind, name));
        Ok(entries.flatten().any(|entry| is_policy(&entry.file_name().to_string_lossy())))
    }

    async fn connect_in_pod(&self, pod: &NamespacedName, address: SocketAddr) -> anyhow::Result<TcpStream> {
        let status = self.status().await?;
        let process = self.process()?;
        let see = format!("osm local status --name {}", status.name);
        let found = status.pods.iter().find(|p| p.namespace == pod.namespace && p.name == pod.name);
        let found = found.ok_or_else(|| Failure {
            message: format!("there is no pod {pod}"),
            hint: format!("see which there are: {see}"),
        })?;
        let target = found.containers.iter().find_map(|container| container.pid).ok_or_else(|| Failure {
            message: format!("no container of pod {pod} runs"),
            hint: if found.reason.is_empty() { format!("see why: {see}") } else { found.reason.clone() },
        })?;
        let connected = tokio::task::spawn_blocking(move || connect_in(&process, target, address)).await?;
        connected.map_err(|error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => Failure {
                message: format!("nobody listens on {address} in pod {pod}"),
                hint: format!("see what it waits for: osm local startup {pod} --name {}", status.name),
            }
            .into(),
            _ => error.context(format!("connecting to {address} in pod {pod}")),
        })
    }

    /// The process of a runner that has just answered.
    fn process(&self) -> anyhow::Result<RunnerProcess> {
        self.state().live_process().context("the runner has ended")
    }
}

/// Connects in the network namespace of a process, which counts in the runner's pid namespace.
fn connect_in(runner: &RunnerProcess, target: u32, address: SocketAddr) -> anyhow::Result<TcpStream> {
    let namespace = inside_of(runner, Path::new(&format!("/proc/{target}/ns/net")));
    // A socket stays in the namespace in which it was made, and the thread that entered it ends here.
    let thread = std::thread::spawn(move || -> anyhow::Result<TcpStream> {
        let namespace = File::open(namespace).map_err(|error| anyhow!("the container has ended: {error}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| anyhow!("entering its network: {error}"))?;
        Ok(TcpStream::connect_timeout(&address, CONNECT_LIMIT)?)
    });
    thread.join().map_err(|_| anyhow!("the thread that enters the network panicked"))?
}

/// A path of the runner's mount namespace, as it is reached from outside.
fn inside_of(runner: &RunnerProcess, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", runner.pid, path.display()))
}

fn read_all(folder: &Path) -> io::Result<Vec<ManifestText>> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".json") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => objects.push(ManifestText { name, text }),
            // Deleted since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    objects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(objects)
}
