//! `osm-sidecar`: what runs in a pod besides the application.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use osm_redirect::{Family, Redirect};
use osm_runtime::{Tasks, Version, telemetry};
use osm_sidecar::fault;
use osm_sidecar::ipv6::{self, Ipv6};
use osm_sidecar::reaper::Children;
use osm_sidecar::{AgentArgs, Config, Listeners, agent, init, merged, probes, ready};
use osm_startup::{LastWords, Reason};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

/// What runs in a pod of the mesh besides the application
#[derive(Parser)]
#[command(name = "osm-sidecar")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install redirection and hold in this network namespace
    Init {
        #[command(flatten)]
        redirect: Box<Redirect>,
    },
    /// Run Envoy: keep it alive and programmed, and say what it waits for
    Agent(Box<AgentArgs>),
    /// Install redirection and hold, give up every right, and become the agent, which is set by its variables
    Merged {
        #[command(flatten)]
        redirect: Box<Redirect>,
        #[command(flatten)]
        mark: Mark,
    },
    /// Wait until `merged`, which runs beside, has installed redirection and hold
    Installed {
        #[command(flatten)]
        mark: Mark,
        /// For how many seconds at most
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        limit_seconds: u16,
    },
    /// Ask the agent whether the pod is programmed; the exit status is 0 if it is
    Ready {
        /// The agent's status address
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15904")]
        agent: SocketAddr,
    },
    /// Say which build this is
    Version,
}

/// For whoever asks why connections of a pod were refused.
const WITHOUT_HOLD: &str = "the node's kernel cannot match sockets, so connections are refused instead of held while \
                             the proxy does not listen";

/// Where `merged` says that it has installed the rules.
#[derive(Args)]
struct Mark {
    /// The agent's directory
    #[arg(long, env = "OSM_STATE_DIR", value_name = "DIRECTORY", default_value = "/var/run/osm")]
    state_dir: PathBuf,
}

fn main() -> ExitCode {
    let (ended, otherwise) = match Cli::parse().command {
        Command::Init { redirect } => (install(&redirect), Reason::InitFailed),
        Command::Agent(args) => (run_agent(*args), Reason::SidecarEnded),
        Command::Merged { redirect, mark } => (run_merged(&redirect, &mark.state_dir), Reason::InitFailed),
        Command::Installed { mark, limit_seconds } => {
            return answered(wait_until_installed(&mark.state_dir, Duration::from_secs(limit_seconds.into())));
        }
        Command::Ready { agent } => return answered(ask_whether_ready(agent)),
        Command::Version => {
            let Version { version, git_commit, build_date } = Version::of_this_build();
            say(&format!("Version: {version}; Commit: {git_commit}; Date: {build_date}"));
            return ExitCode::SUCCESS;
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = fault::last_words(&error, otherwise);
            complain(&words.to_string());
            fault::leave(&words);
            ExitCode::FAILURE
        }
    }
}

/// For questions about the sidecar, which are no part of its life and leave no last words.
fn answered(answer: anyhow::Result<()>) -> ExitCode {
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn install(redirect: &Redirect) -> anyhow::Result<()> {
    let installed = init::install(redirect, Ipv6::of_this_pod(), &init::BACKENDS)?;
    init::let_listeners_inherit();
    if installed.without_hold().is_none() && installed.without_ipv6.is_none() {
        say(&installed.to_string());
        return Ok(());
    }
    complain(&installed.to_string());
    if installed.without_hold().is_some() {
        let words = LastWords::new(Reason::HoldUnavailable, WITHOUT_HOLD);
        complain(&words.to_string());
        fault::leave(&words);
    }
    Ok(())
}

fn run_merged(redirect: &Redirect, state_dir: &Path) -> anyhow::Result<()> {
    install(redirect)?;
    merged::mark_installed(state_dir)?;
    match merged::become_agent(redirect.proxy_uid)? {}
}

fn wait_until_installed(state_dir: &Path, limit: Duration) -> anyhow::Result<()> {
    runtime()?.block_on(merged::wait_until_installed(state_dir, limit))
}

fn ask_whether_ready(agent: SocketAddr) -> anyhow::Result<()> {
    match runtime()?.block_on(ready::ask(agent)) {
        ready::Answer::Programmed(said) => {
            say(&said);
            Ok(())
        }
        ready::Answer::Waits(why) => bail!("the mesh is not ready for this pod: {why}"),
    }
}

fn run_agent(args: AgentArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format, &args.log)?;
    let descriptors = raise_descriptor_limit();
    // Nothing that the agent or Envoy creates is for others.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let (status, admin, metrics) = (args.status_listen, args.admin_listen, args.metrics_listen);
    let trust_domain = args.trust_domain.clone();
    let config = Config::try_from(args)?;
    tracing::info!(
        pod = config.pod.id(),
        pod_uid = config.pod.uid,
        trust_domain,
        controller = config.controller.address,
        descriptors,
        ipv6 = config.families.contains(&Family::V6),
        "agent starts"
    );
    runtime()?.block_on(async {
        let signals = Tasks::new();
        signals.stop_on_signals()?;
        let bind = |what, address| ipv6::bind(address, config.families, what);
        let listeners = Listeners {
            status: bind("status", status)?,
            admin: bind("the admin interface", admin)?,
            metrics: bind("metrics", metrics)?,
            probes: probes::bind(&config.probes, config.families)?,
        };
        agent::run(config, listeners, Children::default(), signals.stop()).await
    })
}

/// There is little to do, and a thread for each processor of a large node would cost memory in every pod.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

/// As many descriptors as the container may have: a connection that the agent carries takes two, and Envoy inherits the
/// limit.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised is left as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

#[expect(clippy::print_stdout, reason = "the init container's log, and the answers to `version` and `ready`")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the log may not be there yet, or not at all in `init`")]
fn complain(text: &str) {
    eprintln!("{text}");
}
