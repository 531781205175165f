//! `osm-sidecar`: what runs in a pod besides the application.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use osm_redirect::Redirect;
use osm_runtime::{Tasks, Version, telemetry};
use osm_sidecar::reaper::Children;
use osm_sidecar::{AgentArgs, Config, Listeners, agent, init, probes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

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
    /// Say which build this is
    Version,
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Init { redirect } => install(&redirect),
        Command::Agent(args) => run_agent(*args),
        Command::Version => {
            let Version { version, git_commit, build_date } = Version::of_this_build();
            say(&format!("Version: {version}; Commit: {git_commit}; Date: {build_date}"));
            Ok(())
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn install(redirect: &Redirect) -> anyhow::Result<()> {
    let installed = init::install(redirect, &init::BACKENDS)?;
    init::let_listeners_inherit();
    if installed.without_hold.is_some() {
        complain(&installed.to_string());
    } else {
        say(&installed.to_string());
    }
    Ok(())
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
        "agent starts"
    );
    // The agent has little to do, and a thread for each processor of a large node would cost memory in every pod.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let signals = Tasks::new();
        signals.stop_on_signals()?;
        let bind = async |what, address| {
            TcpListener::bind(address).await.with_context(|| format!("listening on {address} for {what}"))
        };
        let listeners = Listeners {
            status: bind("status", status).await?,
            admin: bind("the admin interface", admin).await?,
            metrics: bind("metrics", metrics).await?,
            probes: probes::bind(&config.probes).await?,
        };
        agent::run(config, listeners, Children::default(), signals.stop()).await
    })
}

/// As many descriptors as the container may have: a connection that the agent carries takes two, and Envoy inherits the
/// limit.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised is left as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

#[expect(clippy::print_stdout, reason = "the init container's log, and the answer to `version`")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the log may not be there yet, or not at all in `init`")]
fn complain(text: &str) {
    eprintln!("{text}");
}
