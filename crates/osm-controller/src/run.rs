//! The controller's parts, put together.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use osm_pki::TokenKey;
use osm_runtime::admin::{self, Admin};
use osm_runtime::{Liveness, Readiness, Tasks, clock};
use osm_source::directory;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::info_span;

use crate::ads::{AdsHost, Sessions};
use crate::certificate::Certificates;
use crate::config::{Config, Listeners};
use crate::control::{BEAT_LIMIT, Control, Core};
use crate::debug::{self, Debugger};
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::serving::Serving;
use crate::state_dir::{StateDir, read_secret};
use crate::webhook::AdmissionMetrics;
use crate::{authority, port, webhook};

/// Batches of changes that may wait for the loop. When they are this many the source merges what follows.
const EVENTS_QUEUED_MAX: usize = 64;

/// How long everything may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs a controller until `stop`, or until a part fails that it cannot do without.
pub async fn run(config: Config, listeners: Listeners, stop: CancellationToken) -> anyhow::Result<()> {
    let tasks = Tasks::under(&stop);
    let client = match config.kubernetes {
        true => Some(kube::Client::try_default().await.context("finding the cluster")?),
        false => None,
    };
    let result = start(config, listeners, client, &tasks);
    if result.is_err() {
        tasks.stop().cancel();
    }
    let stopped = tasks.wait(STOP_GRACE).await;
    result.and(stopped)
}

fn start(config: Config, listeners: Listeners, client: Option<kube::Client>, tasks: &Tasks) -> anyhow::Result<()> {
    let (readiness, liveness) = (Readiness::default(), Liveness::default());
    let out_of_sync = readiness.pending("manifests read and published");
    let authority_pending = readiness.pending("authority loaded");
    let listening_pending = readiness.pending("listening for sidecars");
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let admission = AdmissionMetrics::register(&mut registry);
    let heartbeat = liveness.heartbeat("control loop", BEAT_LIMIT);
    let admin = admin::router(Admin { readiness, liveness, registry: Arc::new(registry) });
    tasks.spawn("admin", info_span!("admin"), admin::serve(listeners.http, admin, tasks.stop()));

    let (proxies, sessions) = (Proxies::default(), Sessions::default());
    let (events, queue) = mpsc::channel(EVENTS_QUEUED_MAX);
    let trust_domain = config.resolve.trust_domain.clone();
    let core = Core::new(config.resolve.clone());
    let control = Control::new(core, proxies.clone(), metrics.clone(), heartbeat, out_of_sync);
    tasks.spawn(
        "source",
        info_span!("source", kind = "directory"),
        directory::run(config.manifests, events, tasks.stop()),
    );
    tasks.spawn("control", info_span!("control"), control.run(queue, tasks.stop()));

    let state = StateDir::open(&config.state_dir)?;
    let authority = Arc::new(authority::load_or_make(&state, &trust_domain.0, clock::now())?);
    drop(authority_pending);
    let token_key = TokenKey::from_bytes(read_secret(&config.token_key)?);
    let token_key = Arc::new(token_key.with_context(|| format!("reading {}", config.token_key.display()))?);
    let debug_token = debug::load_or_make_token(&state)?;
    let debug = debug::router(Debugger { proxies: proxies.clone(), sessions: sessions.clone() }, debug_token);
    tasks.spawn("debug", info_span!("debug"), admin::serve(listeners.debug, debug, tasks.stop()));

    if let Some(listener) = listeners.webhook {
        let (authority, proxies, options) = (authority.clone(), proxies.clone(), config.resolve);
        let config = config.webhook;
        let needs = webhook::Needs { listener, config, proxies, options, authority, client, metrics: admission };
        webhook::start(needs, tasks)?;
    }
    let serving = Arc::new(Serving::new(authority.clone(), config.server_names)?);
    let tls = serving.tls()?;
    tasks.spawn("serving certificate", info_span!("serving"), serving.keep_renewed(tasks.stop()));
    let host = Arc::new(AdsHost::new(token_key.clone(), proxies, sessions, metrics.clone()));
    let ads = osm_ads::service(host, osm_ads::Limits::default(), tasks.stop());
    let turns = available_parallelism().map_or(1, NonZero::get);
    let certificates = Certificates::new(authority, token_key, trust_domain, turns, metrics);
    let routes = Routes::from(Routes::new(ads).into_axum_router().merge(certificates.router()));
    tasks.spawn("sidecars", info_span!("sidecars"), port::serve(listeners.ads, tls, routes, tasks.stop()));
    drop(listening_pending);
    Ok(())
}
