//! `osm-sidecar`: what runs in a pod besides the application.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use osm_redirect::Redirect;
use osm_runtime::{Tasks, Version, telemetry};
use osm_sidecar::fault::{self, Fault};
use osm_sidecar::reaper::Children;
use osm_sidecar::{AgentArgs, Config, Listeners, agent, init, probes};
use osm_startup::{LastWords, Reason};
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

/// For whoever asks why connections of a pod were refused.
const WITHOUT_HOLD: &str = "the node's kernel cannot match sockets, so connections are refused instead of held while \
                            the proxy does not listen";

fn main() -> ExitCode {
    let (ended, otherwise) = match Cli::parse().command {
        Command::Init { redirect } => (install(&redirect), Reason::InitFailed),
        Command::Agent(args) => (run_agent(*args), Reason::SidecarEnded),
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

fn install(redirect: &Redirect) -> anyhow::Result<()> {
    let installed = init::install(redirect, &init::BACKENDS)?;
    if installed.without_hold.is_some() {
        complain(&installed.to_string());
        let words = LastWords::new(Reason::HoldUnavailable, WITHOUT_HOLD);
        complain(&words.to_string());
        fault::leave(&words);
    } else {
        say(&installed.to_string());
    }
    Ok(())
}

fn run_agent(args: AgentArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format, &args.log)?;
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
        "agent starts"
    );
    // The agent has little to do, and a thread for each processor of a large node would cost memory in every pod.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let signals = Tasks::new();
        signals.stop_on_signals()?;
        let bind = async |what, address| {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|error| {
                let fault = Fault::listening(&error, address, what);
                anyhow::Error::from(error).context(fault)
            })
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

#[expect(clippy::print_stdout, reason = "the init container's log, and the answer to `version`")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the log may not be there yet, or not at all in `init`")]
fn complain(text: &str) {
    eprintln!("{text}");
}
