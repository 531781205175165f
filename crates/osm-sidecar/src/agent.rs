//! The agent: everything in the sidecar but Envoy itself, wired together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use osm_ads::Notice;
use osm_ads::client::{self, Client, Connection, ConnectionState};
use osm_runtime::{Tasks, clock};
use osm_startup::Reason;
use osm_xds::{Replica, Resources, SessionStatus};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tracing::info_span;

use crate::awaited::Awaited;
use crate::bootstrap::{Bootstrap, bootstrap};
use crate::config::{Config, Controller};
use crate::controller;
use crate::downstream::{self, ForEnvoy};
use crate::envoy::Supervisor;
use crate::envoy_admin::EnvoyAdmin;
use crate::farewell::Farewell;
use crate::fault::Fault;
use crate::gate::{self, Obstacle};
use crate::identity::{self, Current, known_roots};
use crate::last_good::saver::Saver;
use crate::last_good::{self, Content, Found, Usable};
use crate::observer::{self, Event, Status};
use crate::pages::{self, Listeners, Shown};
use crate::park::counts::Counts;
use crate::park::twins::Twins;
use crate::park::{self, Guards};
use crate::prober;
use crate::probes;
use crate::pulse::Pulse;
use crate::quit::Quit;
use crate::reaper::Children;
use crate::relay::{self, Inputs, Outputs};
use crate::reporter::Reporter;
use crate::state_dir::StateDir;

/// How long the parts may take to end once Envoy is gone.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Where one part says what holds now, and others listen.
type Wire<T> = (watch::Sender<T>, watch::Receiver<T>);

/// Everything that the parts say to each other. Each has one writer.
struct Wires {
    copy: Wire<Option<Arc<Resources>>>,
    connection: Wire<ConnectionState<Obstacle>>,
    notice: Wire<Notice>,
    workload: Wire<Current>,
    for_envoy: Wire<Option<Arc<Resources>>>,
    session: Wire<SessionStatus>,
    answers: Wire<SessionStatus>,
    envoy: Wire<gate::Envoy>,
    good: Wire<Option<Arc<Content>>>,
    status: Wire<Arc<Status>>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    hung: (mpsc::Sender<u64>, mpsc::Receiver<u64>),
}

impl Wires {
    fn new(found: &Found) -> Wires {
        let earlier = found.content();
        Wires {
            copy: watch::channel(earlier.map(|earlier| earlier.copy.clone())),
            connection: watch::channel(ConnectionState::Connecting { since: clock::now() }),
            notice: watch::channel(Notice::default()),
            workload: watch::channel(earlier.map(|earlier| earlier.workload.clone())),
            for_envoy: watch::channel(None),
            session: watch::channel(SessionStatus::default()),
            answers: watch::channel(SessionStatus::default()),
            envoy: watch::channel(gate::Envoy::Absent),
            good: watch::channel(None),
            status: watch::channel(Arc::default()),
            events: mpsc::channel(observer::QUEUE),
            hung: mpsc::channel(1),
        }
    }
}

/// Runs the agent and its Envoy until `asked`; then drains and stops Envoy. An error if a part fails.
pub async fn run(
    config: Config,
    mut listeners: Listeners,
    children: Children,
    asked: CancellationToken,
) -> anyhow::Result<()> {
    // The application may be connecting already.
    let guards = Guards::bind(config.park.clone(), config.families)?;
    let (state_dir, socket) = prepare_state_dir(&config)
        .with_context(|| Fault::new(Reason::StateDirUnusable, "the sidecar's own directory cannot be used"))?;
    let found = find_last_good(&config, &state_dir)?;
    let admin = EnvoyAdmin::new(state_dir.admin_socket());
    let (tasks, wires) = (Tasks::new(), Wires::new(&found));
    let stop = tasks.stop();
    let (events, counts) = (wires.events.0, Arc::new(Counts::default()));

    tasks.spawn("observer", info_span!("observer"), observer::run(wires.events.1, wires.status.0, stop.clone()));
    if let Some(saver) = saver(&config, &state_dir, &found, wires.good.1) {
        tasks.spawn("saver", info_span!("saver"), saver.run(stop.clone()));
    }
    let awaited = Awaited::new(config.wait_for.clone(), config.wait_limit, clock::now());
    let twins = Twins::new(&state_dir, config.park.limits.is_some(), config.families);
    let Config { pod, controller, envoy, farewell, quit, probes: forwarded, .. } = config;
    let probed = probes::serve(std::mem::take(&mut listeners.probes), forwarded, stop.clone());
    tasks.spawn("application's probes", info_span!("probes"), probed);
    let certified = identity::run(controller.clone(), wires.workload.0, events.clone(), stop.clone());
    tasks.spawn("identity", info_span!("identity"), certified);
    let (workload, status) = (wires.workload.1.clone(), wires.status.1.clone());
    let reporter = Reporter { controller: controller.clone(), workload, status, events: events.clone() };
    tasks.spawn("reporter", info_span!("reporter"), reporter.run(stop.clone()));
    let upstream = Client {
        node: osm_ads::Node { id: pod.id(), cluster: String::new(), user_agent: "osm-sidecar".to_owned() },
        connect: connect(controller, wires.workload.1.clone()),
        replica: found.content().map_or_else(Replica::new, |earlier| Replica::from_earlier(earlier.copy.clone())),
        resources: wires.copy.0,
        proxy: wires.answers.1,
        notice: wires.notice.0,
        state: wires.connection.0,
    };
    tasks.spawn("upstream", info_span!("upstream"), client::run(upstream, stop.clone()).map(Ok));
    let inputs = Inputs {
        copy: wires.copy.1,
        connection: wires.connection.1,
        workload: wires.workload.1,
        session: wires.session.1,
        envoy: wires.envoy.1.clone(),
    };
    let outputs =
        Outputs { resources: wires.for_envoy.0, answers: wires.answers.0, good: wires.good.0, events: events.clone() };
    tasks.spawn("relay", info_span!("relay"), relay::run(inputs, outputs, twins, found, awaited, stop.clone()));
    let host = ForEnvoy::new(pod.id(), wires.for_envoy.1, wires.session.0);
    tasks.spawn("downstream", info_span!("downstream"), downstream::serve(socket, host, stop.clone()));
    let quit = Quit { policy: quit, ordered: CancellationToken::new(), notice: wires.notice.1.clone() };
    let (status, process) = (wires.status.1.clone(), wires.envoy.1.clone());
    let shown = Shown { status, counts: counts.clone(), process, envoy: admin.clone() };
    let served = pages::serve(listeners, shown, quit.clone(), stop.clone());
    tasks.spawn("pages", info_span!("pages"), served);
    let (status, envoy_state, hung) = (wires.status.1, wires.envoy.1, wires.hung.0);
    let programmed = park::follow(&tasks, status.clone(), envoy_state.clone());
    let parking = guards.spawn(&tasks, &state_dir, &programmed, &counts);
    let pulse = Pulse::new(&state_dir, &envoy, programmed.clone(), hung.clone());
    tasks.spawn("pulse", info_span!("pulse"), pulse.run(stop.clone()));
    let probed = prober::run(admin.clone(), envoy.hung_after, envoy_state, status, events.clone(), hung, stop.clone());
    tasks.spawn("prober", info_span!("prober"), probed);
    if std::process::id() == 1 {
        tasks.spawn("reaper", info_span!("reaper"), children.clone().reap(stop.clone()));
    }
    let (bootstrap, state, hung) = (state_dir.bootstrap(), wires.envoy.0, wires.hung.1);
    let farewell = Farewell { config: farewell, notice: wires.notice.1, admin };
    let config = envoy;
    let supervisor =
        Supervisor { config, bootstrap, farewell, quit, children, events, state, hung, counts, parking, programmed };
    // Envoy ends first: until then its configuration and its pages are served.
    let supervised = supervisor.run(asked, stop.clone()).await.context("running Envoy");
    stop.cancel();
    let ended = tasks.wait(END_LIMIT).await;
    supervised.and(ended)
}

fn prepare_state_dir(config: &Config) -> anyhow::Result<(StateDir, UnixListener)> {
    let state_dir = StateDir::prepare(&config.state_dir)?;
    let socket = state_dir.listen(&state_dir.xds_socket())?;
    write_bootstrap(config, &state_dir)?;
    Ok((state_dir, socket))
}

/// What an earlier life of the agent left, with a word to the log. What is not to be used ever is removed.
fn find_last_good(config: &Config, state_dir: &StateDir) -> anyhow::Result<Found> {
    let Config { pod, controller, last_good_age, .. } = config;
    let Some(max_age) = *last_good_age else {
        state_dir.remove(&state_dir.last_good())?;
        return Ok(Found::Nothing);
    };
    let found = last_good::find(state_dir, pod, &controller.token_file, max_age, clock::now());
    match &found {
        Found::Nothing => {}
        Found::Unusable(why) => tracing::warn!(why, "the last good state is not used"),
        Found::Usable(Usable { content, confirmed, limit }) => tracing::info!(
            %confirmed,
            %limit,
            certificate_not_after = %content.workload.not_after,
            resources = content.copy.len(),
            "goes on from the last good state until the controller answers"
        ),
    }
    Ok(found)
}

/// Keeps the last good state, if one is to be kept.
fn saver(
    config: &Config,
    state_dir: &StateDir,
    found: &Found,
    good: watch::Receiver<Option<Arc<Content>>>,
) -> Option<Saver> {
    Some(Saver {
        state_dir: state_dir.clone(),
        pod: config.pod.clone(),
        token_file: config.controller.token_file.clone(),
        max_age: config.last_good_age?,
        good,
        on_disk: found.content().cloned(),
    })
}

fn write_bootstrap(config: &Config, state_dir: &StateDir) -> anyhow::Result<()> {
    let pod = &config.pod;
    let text = bootstrap(&Bootstrap {
        node_id: &pod.id(),
        node_cluster: &format!("{}.{}", pod.service_account, pod.namespace),
        xds_socket: &state_dir.xds_socket(),
        admin_socket: &state_dir.admin_socket(),
    });
    state_dir.write(&state_dir.bootstrap(), text.to_string().as_bytes())
}

/// Makes a connection with what is trusted, and with the token that is there, at the time.
fn connect(
    controller: Controller,
    workload: watch::Receiver<Current>,
) -> impl FnMut() -> futures::future::BoxFuture<'static, Result<Connection, Obstacle>> + Send {
    move || {
        let controller = controller.clone();
        let roots = known_roots(&controller, workload.borrow().as_deref());
        Box::pin(async move {
            let header = controller::authorization(&controller.token_file).await?;
            let mut authorization = MetadataValue::try_from(header.as_bytes()).expect("it is a header's value already");
            authorization.set_sensitive(true);
            let channel = controller::connect(&controller, &roots).await?;
            Ok(Connection { channel, authorization: Some(authorization) })
        })
    }
}
