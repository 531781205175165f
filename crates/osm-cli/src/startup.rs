//! `osm startup`: how a pod started, as a waterfall; while it is held, what it waits for. Of a cluster and of a runner.

mod cluster;
mod picture;
mod runner;

use std::process::ExitCode;

use jiff::Timestamp;
use osm_api::NamespacedName;
use osm_local::{Failure, Local};
use osm_runtime::clock;
use osm_startup::{AgentReport, Missing, PodSeen, StepKind, phases, standing, waited_for};
use serde::Serialize;

use crate::arguments::{PodStartup, Target};
use crate::cluster::Cluster;
use crate::{local, render};

pub(crate) use picture::table;

/// The runner that is asked when none is named.
const RUNNER: &str = "osm";

/// How one pod started.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Startup {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// The start-up shape and why; none outside the mesh.
    pub(crate) shape: Option<String>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Whether its gate is open; none if nobody could say.
    pub(crate) is_programmed: Option<bool>,
    /// Whether it is ready.
    pub(crate) is_ready: bool,
    /// What happened, in order of time.
    pub(crate) steps: Vec<Step>,
    /// How long each part took, as far as it is over.
    pub(crate) phases: Vec<PhaseLength>,
    /// What the pod waits for; empty once it does not.
    pub(crate) missing: Vec<Missing>,
    /// What is not as it should be, though nothing waits for it.
    pub(crate) warnings: Vec<Missing>,
    /// How old it was when it was looked at, in milliseconds.
    pub(crate) age_ms: i64,
}

/// One thing that happened.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// Which kind of thing.
    pub(crate) kind: StepKind,
    /// Milliseconds since the pod was made.
    pub(crate) at_ms: i64,
    /// How long it took after what it waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took_ms: Option<i64>,
    /// In words.
    pub(crate) what: String,
}

/// How long one part took.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct PhaseLength {
    /// Which.
    pub(crate) phase: &'static str,
    /// How long.
    pub(crate) ms: u64,
}

/// Prints how one pod started, or all of them.
pub(crate) async fn run(arguments: PodStartup, before: Target) -> anyhow::Result<ExitCode> {
    let target = arguments.target.or(before);
    let namespace = arguments.namespace.as_deref();
    let place = Place::of(arguments.name.as_deref(), &target).await?;
    let Some(pod) = &arguments.pod else {
        let mut all = match &place {
            Place::Runner(local) => runner::all(local, namespace).await?,
            Place::Cluster(cluster) => cluster::all(cluster, namespace).await?,
        };
        all.sort_by_key(|startup| (std::cmp::Reverse(startup.rank()), startup.pod.clone()));
        render::startups(&all, arguments.output)?;
        return Ok(ExitCode::SUCCESS);
    };
    let pod = local::pod_name(pod, namespace.unwrap_or("default"));
    let startup = match &place {
        Place::Runner(local) => of_runner(local, &pod).await?,
        Place::Cluster(cluster) => cluster::one(cluster, &pod).await?,
    };
    render::startup(&startup, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}

/// How a pod of a runner started.
pub(crate) async fn of_runner(local: &Local, pod: &NamespacedName) -> anyhow::Result<Startup> {
    runner::one(local, pod).await
}

/// Where pods are.
enum Place {
    Runner(Local),
    Cluster(Cluster),
}

impl Place {
    /// A runner that is named; else the default one if it is up and no cluster is named; else the cluster.
    async fn of(runner: Option<&str>, target: &Target) -> anyhow::Result<Place> {
        if let Some(name) = runner {
            return Ok(Place::Runner(Local::named(name)?));
        }
        let local = Local::named(RUNNER)?;
        let is_cluster_named = target.kubeconfig.is_some() || target.context.is_some();
        if !is_cluster_named && local.state().live_process().is_some() {
            return Ok(Place::Runner(local));
        }
        Ok(Place::Cluster(Cluster::of(target).await?))
    }
}

impl Startup {
    /// Puts what is seen of a pod from outside beside what its agent says.
    fn new(pod: &PodSeen, agent: Option<&AgentReport>) -> Startup {
        let now = clock::now();
        let standing = standing(pod, agent, now);
        let mut steps = pod.steps.clone();
        steps.extend(agent.iter().flat_map(|agent| agent.steps()));
        steps.sort();
        let phases = phases(&steps).into_iter().map(|(phase, length)| PhaseLength {
            phase: phase.name(),
            ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        });
        let ms = |at: Timestamp| at.duration_since(pod.created).as_millis().try_into().unwrap_or(i64::MAX);
        let first = |kind: StepKind| steps.iter().find(|step| step.kind == kind).map(|step| step.at);
        let took = |step: &osm_startup::Step| {
            let since = waited_for(step.kind).iter().filter_map(|kind| first(*kind)).max()?;
            Some((ms(step.at) - ms(since)).max(0))
        };
        let told = steps.iter().map(|step| Step {
            kind: step.kind,
            at_ms: ms(step.at),
            took_ms: took(step),
            what: step.what.clone(),
        });
        Startup {
            pod: format!("{}/{}", pod.namespace, pod.name),
            shape: pod.shape.clone(),
            created: pod.created,
            is_programmed: agent.map(|agent| agent.is_programmed),
            is_ready: pod.is_ready,
            steps: told.collect(),
            phases: phases.collect(),
            missing: standing.missing,
            warnings: standing.warnings,
            age_ms: ms(now),
        }
    }

    /// Those that wait come first, then the slowest.
    fn rank(&self) -> (bool, i64) {
        if !self.missing.is_empty() {
            return (true, self.age_ms);
        }
        let of_gate = self.phase("gate").or_else(|| self.phase("ready"));
        (false, of_gate.and_then(|ms| i64::try_from(ms).ok()).unwrap_or_default())
    }

    /// How long a part took.
    fn phase(&self, name: &str) -> Option<u64> {
        self.phases.iter().find(|length| length.phase == name).map(|length| length.ms)
    }
}

fn no_pod(pod: &NamespacedName, see: &str) -> anyhow::Error {
    Failure { message: format!("there is no pod {pod}"), hint: format!("see what there is: {see}") }.into()
}
