//! The runner: one loop that owns what was written down and what runs, and takes one thing after the other.

mod answers;
mod reconcile;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use osm_api::{NamespacedName, Problem, World, k8s};
use osm_pki::TokenKey;
use osm_runtime::telemetry::{self, Format};
use osm_runtime::{Tasks, chance, clock};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::net::{UdpSocket, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use crate::addresses::{DNS, IpFamilies, PodAddresses};
use crate::admission::SidecarPrograms;
use crate::control::{self, Asked, Response};
use crate::desired::{Desired, Owner, desired};
use crate::images::Images;
use crate::names::{self, Zone};
use crate::network::Router;
use crate::plan::{JobProgress, JobRecords};
use crate::pod_task::{Conditions, PodReport, Shared, sleep_until};
use crate::publish::Publisher;
use crate::services::{self, ClusterIps, Rules, ServiceAddresses};
use crate::state_dir::{RunnerProcess, StateDir};
use crate::supervise::{self, Controller};

/// Requests wait here while the loop is busy; more clients than this wait in the socket.
const REQUESTS_LIMIT: usize = 64;
/// Pods whose state changed wait here; what is new of one pod is always its latest state, so that nothing is lost.
const CHANGED_LIMIT: usize = 4096;
/// Between two tries to put rules in place.
const RULES_RETRY: Duration = Duration::from_secs(1);
const LOG_FILTER: &str = "info";

/// How a runner is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) images: Images,
    pub(crate) controller: PathBuf,
    pub(crate) sidecar: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
    #[serde(default)]
    pub(crate) families: IpFamilies,
}

/// Runs until somebody asks for the end.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    telemetry::init(Format::Text, LOG_FILTER)?;
    let state = StateDir::of(name)?;
    let settings = fs::read(state.settings()).context("reading settings.json")?;
    let settings: Settings = serde_json::from_slice(&settings).context("reading settings.json")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    let result = runtime.block_on(serve(state, settings));
    // Whatever still runs ends with the namespace, without being waited for.
    runtime.shutdown_background();
    result
}

async fn serve(state: StateDir, settings: Settings) -> anyhow::Result<()> {
    let router = Router::create(settings.families).await.context("making the router")?;
    let tasks = Tasks::new();
    let names_socket = UdpSocket::bind((DNS, 53)).await.context("listening for names")?;
    let (zone, zone_seen) = watch::channel(Arc::new(Zone::new()));
    tasks.spawn("names", info_span!("names"), names::serve(names_socket, zone_seen));
    let (rules, rules_seen) = watch::channel(Rules::new());
    let (controller, controller_seen) = watch::channel(Controller::default());
    let (changed_sender, changed) = mpsc::channel(CHANGED_LIMIT);
    let token_key = Arc::new(new_token_key(&state)?);
    let mut runner = Runner {
        process: settled_process(&state)?,
        started: clock::now(),
        shared: Shared { router, state: state.clone(), token_key },
        programs: SidecarPrograms { sidecar: settings.sidecar, envoy: settings.envoy },
        images: settings.images,
        families: settings.families,
        written: World::default(),
        world: World::default(),
        desired: Desired::default(),
        job_records: JobRecords::new(),
        job_progress: BTreeMap::new(),
        wake_at: None,
        service_addresses: ServiceAddresses::default(),
        cluster_ips: ClusterIps::new(),
        address_problems: Vec::new(),
        pods: BTreeMap::new(),
        pod_addresses: PodAddresses::default(),
        interfaces: 0,
        slices: BTreeMap::new(),
        backends_seen: None,
        publisher: Publisher::new(state.objects()),
        controller: controller_seen.clone(),
        zone,
        rules,
        changed: changed_sender,
        rng: chance::generator(),
        tasks: tasks.clone(),
    };
    runner.take_in_world();
    runner.reconcile()?;
    // A machine that cannot do this is of no use: better said at once than found out by the first connection.
    let first_rules = rules_seen.borrow().clone();
    services::restore(&first_rules).await.context("putting the rules of services in place")?;
    tasks.spawn("rules", info_span!("rules"), keep_rules(rules_seen));
    // Only now, so that the first thing the controller reads is complete.
    let supervising = supervise::supervise(settings.controller, state.clone(), controller);
    tasks.spawn_session("controller", info_span!("controller"), supervising);
    let (request_sender, requests) = mpsc::channel(REQUESTS_LIMIT);
    // The last thing, because whoever sees the socket may ask for anything.
    let listener = UnixListener::bind(state.control_socket()).context("listening on the control socket")?;
    tasks.spawn("control", info_span!("control"), control::serve(listener, request_sender));
    runner.turn(requests, changed, controller_seen, tasks.stop()).await
}

/// Everything that the loop owns.
pub(crate) struct Runner {
    process: RunnerProcess,
    started: Timestamp,
    shared: Shared,
    programs: SidecarPrograms,
    images: Images,
    families: IpFamilies,
    /// What was applied.
    written: World,
    /// The same, with what exists in every cluster.
    world: World,
    desired: Desired,
    job_records: JobRecords,
    job_progress: BTreeMap<NamespacedName, JobProgress>,
    /// When the next steps are due even if nothing happens until then.
    wake_at: Option<Timestamp>,
    service_addresses: ServiceAddresses,
    cluster_ips: ClusterIps,
    address_problems: Vec<Problem>,
    pods: BTreeMap<NamespacedName, Entry>,
    pod_addresses: PodAddresses,
    /// How many pods there ever were; their interfaces are numbered.
    interfaces: u64,
    slices: BTreeMap<NamespacedName, k8s::EndpointSlice>,
    /// The pods as the endpoints were last made from them; none when they must be made anew.
    backends_seen: Option<Vec<(NamespacedName, bool, bool)>>,
    publisher: Publisher,
    controller: watch::Receiver<Controller>,
    zone: watch::Sender<Arc<Zone>>,
    rules: watch::Sender<Rules>,
    changed: mpsc::Sender<()>,
    rng: StdRng,
    tasks: Tasks,
}

/// A pod that the plan has started, for better or worse.
struct Entry {
    revision: String,
    owner: Option<Owner>,
    state: EntryState,
}

enum EntryState {
    /// Its task runs.
    Live {
        ip: Ipv4Addr,
        stop: CancellationToken,
        /// What the controller says of it.
        conditions: watch::Sender<Conditions>,
        report: watch::Receiver<PodReport>,
        warnings: Vec<Problem>,
    },
    /// It may not start.
    Refused(Vec<Problem>),
    /// It is in the mesh, and the controller has no authority yet to trust in.
    Held,
}

impl Runner {
    async fn turn(
        mut self,
        mut requests: mpsc::Receiver<Asked>,
        mut changed: mpsc::Receiver<()>,
        mut controller: watch::Receiver<Controller>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut authority = None;
        loop {
            tokio::select! {
                // What pods say first: whoever asks for the status gets the latest.
                biased;
                () = stop.cancelled() => return self.tasks.wait(Duration::ZERO).await,
                () = sleep_until(self.wake_at), if self.wake_at.is_some() => {}
                Some(()) = changed.recv() => while changed.try_recv().is_ok() {},
                Ok(()) = controller.changed() => {
                    let now = controller.borrow_and_update().root_ca_pem.clone();
                    if now != authority {
                        authority = now;
                        self.pods.retain(|_, entry| !matches!(entry.state, EntryState::Held));
                    }
                }
                Some((request, answer)) = requests.recv() => {
                    if self.answer(request, answer) == Next::End {
                        return Ok(());
                    }
                }
            }
            if let Err(error) = self.reconcile() {
                // Tried again in the next turn; meanwhile everything runs on as it is.
                tracing::error!(error = format!("{error:#}"), "the next steps cannot be taken");
                self.backends_seen = None;
            }
        }
    }

    /// What was applied is different: everything that follows from it alone.
    fn take_in_world(&mut self) {
        self.world = crate::desired::completed(&self.written);
        services::settle_families(&mut self.world, self.families);
        self.desired = desired(&self.world);
        let known = self.world.namespaces.clone();
        let mut placed = self.world.clone();
        placed.services.retain(|name, _| known.contains_key(&name.namespace));
        (self.cluster_ips, self.address_problems) = self.service_addresses.assign(&placed);
        // What was refused may be admitted now.
        self.pods.retain(|_, entry| !matches!(entry.state, EntryState::Refused(_)));
        self.backends_seen = None;
    }
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    End,
}

/// Who asked, and is told when there is something to tell.
type Answer = oneshot::Sender<Response>;

/// The rules in force are always the latest, and never change while others are being put in place.
async fn keep_rules(mut rules: watch::Receiver<Rules>) -> anyhow::Result<()> {
    while rules.changed().await.is_ok() {
        let latest = rules.borrow_and_update().clone();
        while let Err(error) = services::restore(&latest).await {
            tracing::error!(error = format!("{error:#}"), "the rules of services cannot be put in place");
            tokio::time::sleep(RULES_RETRY).await;
        }
    }
    Ok(())
}

fn new_token_key(state: &StateDir) -> anyhow::Result<TokenKey> {
    let key = TokenKey::generate();
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(state.token_key());
    file.and_then(|mut file| file.write_all(&key.to_bytes())).context("writing the token key")?;
    Ok(key)
}

/// The runner's number on the machine, which this process cannot see itself.
fn settled_process(state: &StateDir) -> anyhow::Result<RunnerProcess> {
    state.recorded_process().context("runner.json cannot be read")
}
