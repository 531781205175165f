//! One pod, carried out: its network, its volumes, its processes and its probes, as its [`Lifecycle`] says.

mod containers;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use osm_api::{NamespacedName, SIDECAR_CONTAINER, k8s};
use osm_pki::{Claims, TokenKey, mint};
use osm_runtime::{clock, http};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::addresses::PodIps;
use crate::admission::{Admitted, fields};
use crate::desired::{Owner, service_account};
use crate::images::Images;
use crate::network::{PodNamespaces, Router};
use crate::pod::{Lifecycle, Phase, Step};
use crate::process::hostname;
use crate::state_dir::StateDir;
use crate::status::{PodStatus, TimelineEntry, TimelineEvent};
use crate::volumes::{self, Volumes};

use containers::{Happened, Live};

/// A pod that restarts for days does not remember every restart: what matters is how it started.
const TIMELINE_LIMIT: usize = 500;
/// Things that happen to one pod's containers wait here; the task never takes long to look.
const HAPPENED_LIMIT: usize = 64;
/// How long the sidecar is waited for when it is asked for its own timeline.
pub(crate) const SIDECAR_PATIENCE: Duration = Duration::from_millis(500);

/// What all pods share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) state: StateDir,
    pub(crate) token_key: Arc<TokenKey>,
}

/// What makes one pod.
pub(crate) struct Start {
    pub(crate) name: NamespacedName,
    pub(crate) ips: PodIps,
    pub(crate) interface: String,
    pub(crate) owner: Option<Owner>,
    pub(crate) created: Timestamp,
    pub(crate) admitted: Admitted,
    pub(crate) images: Images,
}

/// One pod's state as others see it.
#[derive(Clone, Debug)]
pub(crate) struct PodReport {
    pub(crate) status: PodStatus,
    pub(crate) pod: Arc<k8s::Pod>,
    /// Whether all of its containers are ready; the pod is when its readiness gates are open too.
    pub(crate) has_ready_containers: bool,
    /// Since when it is ready; none while it is not.
    pub(crate) ready_since: Option<Timestamp>,
    /// When it was told to stop.
    pub(crate) stopping_since: Option<Timestamp>,
    /// When it succeeded or failed.
    pub(crate) ended_at: Option<Timestamp>,
    /// Nothing of it is left, and it was told to stop.
    pub(crate) is_gone: bool,
}

/// What the controller says of a pod: conditions by their types.
pub(crate) type Conditions = BTreeMap<String, k8s::PodCondition>;

/// Runs the pod until it is told to stop and nothing of it is left.
pub(crate) async fn run(
    shared: Shared,
    start: Start,
    stop: CancellationToken,
    conditions: watch::Receiver<Conditions>,
    tell: watch::Sender<PodReport>,
) {
    let (sender, happened) = mpsc::channel(HAPPENED_LIMIT);
    let mut task = PodTask::new(shared, start, sender, conditions, tell);
    task.note(TimelineEvent::Created, None, None);
    task.note(TimelineEvent::Admitted, None, None);
    if let Err(error) = task.set_up(&stop).await {
        tracing::error!(pod = %task.start.name, error = format!("{error:#}"), "a pod cannot be set up");
        task.failure = format!("{error:#}");
        task.lifecycle.stop();
        task.report();
    }
    task.live(&stop, happened).await;
    task.take_down();
    stop.cancelled().await;
    task.report_gone();
}

/// The first report of a pod, before anything of it is there.
pub(crate) fn first_report(start: &Start) -> PodReport {
    let status = PodStatus {
        namespace: start.name.namespace.clone(),
        name: start.name.name.clone(),
        uid: start.admitted.pod.metadata.uid.clone().unwrap_or_default(),
        ip: None,
        ipv6: None,
        interface: None,
        phase: Phase::Pending,
        ready: false,
        terminating: false,
        reason: "its network is being made".into(),
        deployment: start.owner.as_ref().and_then(Owner::deployment).cloned(),
        job: start.owner.as_ref().and_then(Owner::job).cloned(),
        injected: start.admitted.injected.clone(),
        conditions: Vec::new(),
        containers: Vec::new(),
        timeline: Vec::new(),
        sidecar: None,
    };
    let pod = start.admitted.pod.clone();
    PodReport {
        status,
        pod,
        has_ready_containers: false,
        ready_since: None,
        stopping_since: None,
        ended_at: None,
        is_gone: false,
    }
}

/// What a sidecar says about its own start.
pub(crate) async fn ask_sidecar(ip: Ipv4Addr) -> Option<serde_json::Value> {
    let address = (ip, u16::try_from(osm_inject::STATUS_PORT).ok()?).into();
    let limits = http::Limits { timeout: SIDECAR_PATIENCE, body_bytes: 1 << 20 };
    let answer = http::get_tcp(address, "/osm-sidecar/startup", limits).await.ok()?;
    serde_json::from_slice(answer.body()).ok()
}

struct PodTask {
    shared: Shared,
    start: Start,
    lifecycle: Lifecycle,
    live: Vec<Live>,
    namespaces: Option<Arc<PodNamespaces>>,
    volumes: Volumes,
    volume_places: BTreeMap<String, PathBuf>,
    renewal: Option<Timestamp>,
    /// When what is left of a pod that ends is ended: set by the first container that is asked to end.
    stop_by: Option<Timestamp>,
    timeline: Vec<TimelineEntry>,
    sidecar: Option<serde_json::Value>,
    ready_since: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    is_terminating: bool,
    stopping_since: Option<Timestamp>,
    failure: String,
    sender: mpsc::Sender<Happened>,
    conditions: watch::Receiver<Conditions>,
    tell: watch::Sender<PodReport>,
}

impl PodTask {
    fn new(
        shared: Shared,
        start: Start,
        sender: mpsc::Sender<Happened>,
        conditions: watch::Receiver<Conditions>,
        tell: watch::Sender<PodReport>,
    ) -> PodTask {
        let spec = start.admitted.pod.spec.clone().unwrap_or_default();
        let live = fields(&spec).into_iter().map(|(field, container)| Live::new(field, container.clone()));
        PodTask {
            lifecycle: Lifecycle::new(&spec),
            live: live.collect(),
            volumes: volumes::volumes(&start.admitted.pod, start.ips, &start.admitted.config_maps),
            shared,
            start,
            namespaces: None,
            volume_places: BTreeMap::new(),
            renewal: None,
            stop_by: None,
            timeline: Vec::new(),
            sidecar: None,
            ready_since: None,
            ended_at: None,
            is_terminating: false,
            stopping_since: None,
            failure: String::new(),
            sender,
            conditions,
            tell,
        }
    }

    async fn set_up(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let name = hostname(&self.start.admitted.pod);
        let making = self.shared.router.add_pod(&self.start.interface, name, self.start.ips);
        // Half a network is no use to anybody: this is finished even if the pod is to stop.
        self.namespaces = Some(Arc::new(making.await.context("making the pod's network")?));
        self.note(TimelineEvent::NetworkReady, None, None);
        let now = clock::now();
        // What an earlier pod of this name wrote is not this one's.
        let _ = fs::remove_dir_all(self.shared.state.pod_logs(&self.start.name));
        fs::create_dir(self.folder()).context("making the pod's folder")?;
        self.volume_places = volumes::create(&self.folder().join("volumes"), &self.volumes, now, &self.mint())?;
        self.renewal = volumes::renewal(&self.volumes, now);
        for (volume, sub_path) in self.sub_paths() {
            fs::create_dir_all(volume.join(&sub_path)).with_context(|| format!("creating the sub path {sub_path}"))?;
        }
        if stop.is_cancelled() {
            self.begin_stop();
        }
        Ok(())
    }

    async fn live(&mut self, stop: &CancellationToken, mut happened: mpsc::Receiver<Happened>) {
        loop {
            let steps = self.lifecycle.next(clock::now());
            let had_steps = !steps.is_empty();
            for step in steps {
                match step {
                    Step::Start(index) => self.start_container(index).await,
                    Step::Stop(index) => self.stop_container(index),
                }
            }
            self.note_readiness();
            self.report();
            if had_steps {
                continue;
            }
            if self.lifecycle.is_over() {
                return;
            }
            let kill_at = self.live.iter().filter_map(|live| live.kill_at).min();
            let wake = [self.lifecycle.wake_at(), self.renewal, kill_at].into_iter().flatten().min();
            tokio::select! {
                event = happened.recv() => event.into_iter().for_each(|event| self.take(event)),
                () = stop.cancelled(), if !self.is_terminating => self.begin_stop(),
                // The runner keeps the other end as long as the pod is there.
                Ok(()) = self.conditions.changed() => {}
                () = sleep_until(wake), if wake.is_some() => self.on_time(),
            }
        }
    }

    fn begin_stop(&mut self) {
        self.is_terminating = true;
        self.stopping_since = Some(clock::now());
        self.note(TimelineEvent::Stopping, None, None);
        self.lifecycle.stop();
    }

    fn on_time(&mut self) {
        let now = clock::now();
        self.kill_overdue(now);
        if self.renewal.is_some_and(|at| at <= now) {
            if let Err(error) = volumes::write_files(&self.folder().join("volumes"), &self.volumes, now, &self.mint()) {
                tracing::error!(pod = %self.start.name, error = format!("{error:#}"), "tokens cannot be renewed");
            }
            self.renewal = volumes::renewal(&self.volumes, now);
        }
    }

    fn take_down(&mut self) {
        // The last one out: with its namespaces go its interfaces.
        self.namespaces = None;
        if let Err(error) = fs::remove_dir_all(self.folder()) {
            tracing::debug!(pod = %self.start.name, %error, "the pod's folder is left");
        }
    }

    fn mint(&self) -> impl Fn(&str, Timestamp) -> String + use<> {
        let pod = &self.start.admitted.pod;
        let claims = Claims {
            aud: String::new(),
            namespace: self.start.name.namespace.clone(),
            service_account: pod.spec.as_ref().map(|spec| service_account(spec).to_owned()).unwrap_or_default(),
            pod: self.start.name.name.clone(),
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            exp: Timestamp::UNIX_EPOCH,
        };
        let key = self.shared.token_key.clone();
        move |audience, exp| mint(&key, &Claims { aud: audience.to_owned(), exp, ..claims.clone() })
    }

    fn folder(&self) -> PathBuf {
        let uid = self.start.admitted.pod.metadata.uid.clone().unwrap_or_default();
        self.shared.state.private().join("pods").join(uid)
    }

    fn sub_paths(&self) -> Vec<(PathBuf, String)> {
        let mounts = self.live.iter().flat_map(|live| live.container.volume_mounts.iter().flatten());
        let with_place = mounts.filter_map(|mount| {
            Some((self.volume_places.get(&mount.name)?.clone(), mount.sub_path.clone().filter(|p| !p.is_empty())?))
        });
        with_place.collect()
    }

    fn note(&mut self, event: TimelineEvent, container: Option<usize>, exit_code: Option<i32>) {
        if self.timeline.len() < TIMELINE_LIMIT {
            let container = container.map(|index| self.live[index].container.name.clone());
            // What the pod is made from was decided before the task began.
            let at = if event == TimelineEvent::Created { self.start.created } else { clock::now() };
            self.timeline.push(TimelineEntry { at_unix_ms: at.as_millisecond(), event, container, exit_code });
        }
    }

    fn note_readiness(&mut self) {
        let is_ready = self.is_ready();
        if is_ready != self.ready_since.is_some() {
            self.ready_since = is_ready.then(clock::now);
            self.note(if is_ready { TimelineEvent::Ready } else { TimelineEvent::Unready }, None, None);
        }
        let is_over = self.lifecycle.is_over();
        if is_over && self.ended_at.is_none() {
            self.ended_at = Some(clock::now());
            self.note(TimelineEvent::Over, None, None);
        }
    }

    fn report(&mut self) {
        let is_connected = self.namespaces.is_some();
        let conditions = self.conditions.borrow_and_update().values().cloned().collect();
        let status = PodStatus {
            ip: is_connected.then_some(self.start.ips.v4),
            ipv6: self.start.ips.v6.filter(|_| is_connected),
            interface: is_connected.then(|| self.start.interface.clone()),
            phase: if self.failure.is_empty() { self.lifecycle.phase() } else { Phase::Failed },
            ready: self.is_ready(),
            terminating: self.is_terminating,
            reason: if self.failure.is_empty() { self.reason() } else { self.failure.clone() },
            conditions,
            containers: self.container_statuses(),
            timeline: self.timeline.clone(),
            sidecar: self.sidecar.clone(),
            ..first_report(&self.start).status
        };
        let pod = self.start.admitted.pod.clone();
        let (ready_since, ended_at) = (self.ready_since, self.ended_at);
        let (has_ready_containers, stopping_since) = (self.lifecycle.is_ready(), self.stopping_since);
        self.tell.send_replace(PodReport {
            status,
            pod,
            has_ready_containers,
            ready_since,
            stopping_since,
            ended_at,
            is_gone: false,
        });
    }

    fn report_gone(&mut self) {
        self.tell.send_modify(|report| report.is_gone = true);
    }

    fn reason(&self) -> String {
        if self.lifecycle.phase() != Phase::Failed {
            let closed = self.closed_gate().filter(|_| self.lifecycle.is_ready());
            return closed.unwrap_or_else(|| self.lifecycle.waits_for());
        }
        let failed = self.lifecycle.slots().iter().find(|slot| slot.last_exit.is_some_and(|code| code != 0));
        failed.map_or_else(String::new, |slot| {
            format!("container {} ended with exit code {}", slot.name, slot.last_exit.unwrap_or_default())
        })
    }

    /// Whether it may be sent traffic: its containers are ready, and its readiness gates are open.
    fn is_ready(&self) -> bool {
        self.lifecycle.is_ready() && self.closed_gate().is_none()
    }

    /// What the first of the pod's readiness gates that is not open waits for.
    fn closed_gate(&self) -> Option<String> {
        let said = self.conditions.borrow();
        let spec = self.start.admitted.pod.spec.as_ref()?;
        let mut gates = spec.readiness_gates.iter().flatten().map(|gate| &gate.condition_type);
        let gate = gates.find(|gate| said.get(*gate).is_none_or(|condition| condition.status != "True"))?;
        let why = said.get(gate).and_then(|condition| condition.message.clone());
        Some(format!("readiness gate {gate}: {}", why.unwrap_or_else(|| "nobody has opened it yet".to_owned())))
    }

    /// Asks the pod's sidecar for its timeline, so that it is known when the sidecar is not there any more.
    fn is_sidecar(&self, index: usize) -> bool {
        self.start.admitted.injected.is_some() && self.live[index].container.name == SIDECAR_CONTAINER
    }
}

pub(crate) async fn sleep_until(time: Option<Timestamp>) {
    if let Some(time) = time {
        let left = time.duration_since(clock::now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    }
}
