//! The controller's parts, put together.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use kube::{Api, Client};
use osm_api::Problem;
use osm_pki::{Authority, TokenKey};
use osm_runtime::admin::{self, Admin};
use osm_runtime::{Liveness, Readiness, Tasks, clock};
use osm_source::{Event, directory, kubernetes};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::{self, Sender};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::info_span;

use crate::ads::{AdsHost, Sessions};
use crate::caller::Verifier;
use crate::certificate::Certificates;
use crate::complaints::PROBLEMS_QUEUED_MAX;
use crate::config::{Config, Listeners, Platform};
use crate::control::{BEAT_LIMIT, Control, Core};
use crate::debug::{self, Debugger};
use crate::metrics::Metrics;
use crate::peers::{Answers, Notices, Peers};
use crate::pod_conditions::{PodConditions, Sink};
use crate::proxies::Proxies;
use crate::reviews::Reviews;
use crate::serving::Serving;
use crate::standing::Watch;
use crate::startups::Startups;
use crate::state_dir::{StateDir, read_secret};
use crate::webhook::AdmissionMetrics;
use crate::{authority, complaints, port, preset, webhook};

/// Batches of changes that may wait for the loop. When they are this many the source merges what follows.
const EVENTS_QUEUED_MAX: usize = 64;

/// How long everything may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// In a cluster everything goes on for so long after the stop is asked for, but not ready any more: it takes a while
/// until nobody is sent here, and whoever comes meanwhile must not be turned away.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs a controller until `stop`, or until a part fails that it cannot do without.
pub async fn run(config: Config, listeners: Listeners, stop: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let tasks = match &config.platform {
        Platform::Runner { .. } => Tasks::under(&stop),
        Platform::Cluster(_) => {
            let tasks = Tasks::new();
            tasks.spawn("drain", info_span!("drain"), drain(stop, readiness.clone(), tasks.stop()));
            tasks
        }
    };
    let result = tokio::select! {
        result = start(config, listeners, &tasks, readiness) => result,
        () = tasks.stop().cancelled_owned() => Ok(()),
    };
    if result.is_err() {
        tasks.stop().cancel();
    }
    let stopped = tasks.wait(STOP_GRACE).await;
    result.and(stopped)
}

async fn drain(asked: CancellationToken, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = asked.cancelled() => {}
        () = stop.cancelled() => return Ok(()),
    }
    let _stopping = readiness.pending("stopping");
    tracing::info!(seconds = DRAIN.as_secs(), "no longer ready; stopping soon");
    tokio::select! {
        () = tokio::time::sleep(DRAIN) => stop.cancel(),
        () = stop.cancelled() => {}
    }
    Ok(())
}

async fn start(config: Config, listeners: Listeners, tasks: &Tasks, readiness: Readiness) -> anyhow::Result<()> {
    let liveness = Liveness::default();
    let out_of_sync = readiness.pending("objects read and published");
    let authority_pending = readiness.pending("authority loaded");
    let listening_pending = readiness.pending("listening for sidecars");
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let admission = AdmissionMetrics::register(&mut registry);
    let heartbeat = liveness.heartbeat("control loop", BEAT_LIMIT);
    let admin = admin::router(Admin { readiness, liveness, registry: Arc::new(registry) });
    tasks.spawn("admin", info_span!("admin"), admin::serve(listeners.http, admin, tasks.stop()));

    let client = match &config.platform {
        Platform::Runner { .. } => None,
        Platform::Cluster(cluster) => Some(kubernetes::client(cluster.kubeconfig.as_deref()).await?),
    };
    let (proxies, sessions) = (Proxies::default(), Sessions::default());
    let (events, queue) = mpsc::channel(EVENTS_QUEUED_MAX);
    let sources = spawn_sources(&config, client.clone(), &events, tasks);
    drop(events);
    let complaints = client.clone().map(|client| spawn_complaints(client, tasks));
    let conditions = spawn_conditions(&config.platform, client.clone(), tasks);
    let (answers, notices) = (Answers::default(), Notices::default());
    let peers = Peers::new(proxies.clone(), answers.clone(), notices.clone(), conditions.clone());
    tasks.spawn("peers", info_span!("peers"), peers.run(tasks.stop()));
    let core = Core::new(config.resolve.clone());
    let control = Control::new(core, proxies.clone(), metrics.clone(), heartbeat, sources, out_of_sync, complaints);
    tasks.spawn("control", info_span!("control"), control.run(queue, tasks.stop()));

    let startup_client = client.clone();
    let Trust { authority, verifier, debug_token } = trust(&config, client.clone(), &proxies).await?;
    drop(authority_pending);
    let debug = debug::router(Debugger { proxies: proxies.clone(), sessions: sessions.clone() }, debug_token);
    tasks.spawn("debug", info_span!("debug"), admin::serve(listeners.debug, debug, tasks.stop()));

    if let Some(listener) = listeners.webhook {
        let (authority, proxies, options) = (authority.clone(), proxies.clone(), config.resolve.clone());
        let config = config.webhook;
        let needs = webhook::Needs { listener, config, proxies, options, authority, client, metrics: admission };
        webhook::start(needs, tasks)?;
    }
    let serving = Arc::new(Serving::new(authority.clone(), config.server_names)?);
    let tls = serving.tls()?;
    tasks.spawn("serving certificate", info_span!("serving"), serving.keep_renewed(tasks.stop()));
    let startups = Startups::new(verifier.clone(), proxies.clone(), metrics.clone(), config.resolve.mesh_name.clone());
    let watch = Watch { proxies: proxies.clone(), startups: startups.clone(), conditions, client: startup_client };
    tasks.spawn("startups", info_span!("startups"), watch.run(tasks.stop()));
    let host = Arc::new(AdsHost::new(verifier.clone(), proxies, sessions, (answers, notices), metrics.clone()));
    let ads = osm_ads::service(host, osm_ads::Limits::default(), tasks.stop());
    let turns = available_parallelism().map_or(1, NonZero::get);
    let certificates = Certificates::new(authority, verifier, config.resolve.trust_domain, turns, metrics);
    let routes =
        Routes::from(Routes::new(ads).into_axum_router().merge(certificates.router()).merge(startups.router()));
    tasks.spawn("sidecars", info_span!("sidecars"), port::serve(listeners.ads, tls, routes, tasks.stop()));
    drop(listening_pending);
    Ok(())
}

/// Starts what writes problems where their owners look, and says where it takes them.
fn spawn_complaints(client: Client, tasks: &Tasks) -> Sender<Problem> {
    let (sender, problems) = mpsc::channel(PROBLEMS_QUEUED_MAX);
    tasks.spawn("complaints", info_span!("complaints"), complaints::run(client, problems, tasks.stop()));
    sender
}

/// Starts what writes the conditions of pods, if there is somewhere to write them.
fn spawn_conditions(platform: &Platform, client: Option<Client>, tasks: &Tasks) -> PodConditions {
    let conditions = PodConditions::default();
    let sink = match (platform, client) {
        (Platform::Cluster(_), client) => client.map(Sink::Cluster),
        (Platform::Runner { runner_socket, .. }, _) => runner_socket.clone().map(Sink::Runner),
    };
    if let Some(sink) = sink {
        tasks.spawn("conditions", info_span!("conditions"), conditions.clone().run(sink, tasks.stop()));
    }
    conditions
}

/// Starts every source, and says how many there are.
fn spawn_sources(config: &Config, client: Option<Client>, events: &Sender<Event>, tasks: &Tasks) -> usize {
    let mut sources = 0;
    if !config.manifests.is_empty() {
        sources += 1;
        let source = directory::run(config.manifests.clone(), events.clone(), tasks.stop());
        tasks.spawn("source", info_span!("source", kind = "directory"), source);
    }
    if let Some(client) = client {
        sources += 1;
        let source = cluster_source(client, config.resolve.osm_namespace.clone(), events.clone(), tasks.stop());
        tasks.spawn("cluster", info_span!("source", kind = "cluster"), source);
    }
    sources
}

/// The objects of a cluster, after its settings have been seen to.
async fn cluster_source(
    client: Client,
    osm_namespace: String,
    events: Sender<Event>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let is_settled = tokio::select! {
        is_settled = preset::settle(&client, &osm_namespace) => is_settled,
        () = stop.cancelled() => return Ok(()),
    };
    let source = kubernetes::run(client.clone(), osm_namespace.clone(), events, stop);
    let settle = async {
        if !is_settled {
            preset::settle_in_the_end(&client, &osm_namespace).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = source => ended,
        () = settle => Ok(()),
    }
}

/// Who signs, who is believed, and who may look inside.
struct Trust {
    authority: Arc<Authority>,
    verifier: Arc<Verifier>,
    debug_token: String,
}

async fn trust(config: &Config, client: Option<Client>, proxies: &Proxies) -> anyhow::Result<Trust> {
    let trust_domain = &config.resolve.trust_domain.0;
    let (authority, verifier, debug_token) = match (&config.platform, client) {
        (Platform::Cluster(cluster), Some(client)) => {
            let secrets = Api::namespaced(client.clone(), &config.resolve.osm_namespace);
            let authority = authority::from_secret(&secrets, &cluster.ca_bundle_secret_name, trust_domain).await;
            let debug_token = match &cluster.state_dir {
                Some(path) => debug::load_or_make_token(&StateDir::open(path)?)?,
                None => debug::make_token(),
            };
            (authority, Verifier::Cluster(Box::new(Reviews::new(client, proxies.clone()))), debug_token)
        }
        (Platform::Cluster(_), None) => unreachable!("a cluster has a client"),
        (Platform::Runner { state_dir, token_key, .. }, _) => {
            let state = StateDir::open(state_dir)?;
            let authority = authority::load_or_make(&state, trust_domain, clock::now())?;
            let key = TokenKey::from_bytes(read_secret(token_key)?);
            let key = key.with_context(|| format!("reading {}", token_key.display()))?;
            (authority, Verifier::Runner(key), debug::load_or_make_token(&state)?)
        }
    };
    Ok(Trust { authority: Arc::new(authority), verifier: Arc::new(verifier), debug_token })
}
