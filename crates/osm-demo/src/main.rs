//! Small programs of the demo and of the end-to-end scenarios: servers, a client that connects once, a load.
//!
//! They are written as applications that know nothing of a mesh: no retry, no wait, plain HTTP.

mod client;
mod load;
mod meddler;
mod probed;
mod server;
mod watch;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

#[derive(Parser)]
#[command(name = "osm-demo", about, version)]
struct Arguments {
    #[command(subcommand)]
    program: Program,
}

#[derive(Subcommand)]
enum Program {
    /// Serve HTTP: answers every request with a greeting and the name given.
    Serve {
        /// Address to listen on.
        #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
        address: IpAddr,
        /// Port to listen on.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Name in the greeting.
        #[arg(long, env = "HOSTNAME", default_value = "server")]
        name: String,
        /// Milliseconds that each answer takes.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
        /// End at once when told to, with whatever is under way.
        #[arg(long)]
        drop_everything: bool,
    },
    /// Serve HTTP, HTTPS and the health protocol of gRPC: what a kubelet can probe.
    Probed {
        #[command(flatten)]
        ports: probed::Ports,
        /// What every question is answered with.
        #[arg(long, default_value = "serving")]
        health: probed::Health,
    },
    /// Serve a protocol in which the server speaks first: one line, then everything is echoed.
    Greet {
        /// Port to listen on.
        #[arg(long, default_value_t = 3306)]
        port: u16,
    },
    /// Serve a mutating webhook that changes pods with no regard to others: /first puts a container before all others,
    /// /strip takes `restartPolicy` from init containers.
    Meddle {
        /// Port to listen on.
        #[arg(long, default_value_t = 8443)]
        port: u16,
        /// The name under which the API server calls.
        #[arg(long)]
        name: String,
    },
    /// Connect once, at once, and read the greeting of a server that speaks first.
    Hear {
        /// `host:port` to connect to.
        target: String,
    },
    /// Make one request, at once, without retries: the client of OSM issue 2316. Exit status 0 means it was answered.
    Once {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
        /// Milliseconds before it.
        #[arg(long, default_value_t = 0)]
        pause_ms: u64,
        /// Say what came of it here too. Nobody keeps what a container's hook prints; /proc/1/fd/1 is the container's log.
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// Stay until told to end, and only then make one request without retries: what an application does at shutdown.
    Last {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
        /// Milliseconds before it.
        #[arg(long, default_value_t = 0)]
        pause_ms: u64,
    },
    /// Send one order, without a body. Exit status 0 means that it was carried out.
    Post {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
    },
    /// Try every 20 ms until a request is answered, say when that was, and stay.
    First {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
    },
    /// Make requests over one connection for a while, and say whether that connection survived.
    Keep {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
        /// For how long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Ask several servers over and over, each on one connection, and say when an answer's status changes.
    Watch {
        /// Whom to ask, as `http://host:port/path`.
        urls: Vec<client::Url>,
        /// Milliseconds between two requests to one of them.
        #[arg(long, default_value_t = 10)]
        pause_ms: u64,
    },
    /// Open new connections at a steady rate, one request each, and count what became of them.
    Load {
        /// Where to, as `http://host:port/path`.
        url: client::Url,
        /// New connections per second.
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// For how long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Arguments::parse().program {
        Program::Serve { address, port, name, delay_ms, drop_everything } => {
            let serving = server::serve((address, port).into(), name, Duration::from_millis(delay_ms));
            if drop_everything { until_told_to_end(serving).await } else { serving.await }
        }
        Program::Probed { ports, health } => until_told_to_end(probed::serve(ports, health)).await,
        Program::Greet { port } => until_told_to_end(server::greet(port)).await,
        Program::Meddle { port, name } => until_told_to_end(meddler::serve(port, &name)).await,
        Program::Hear { target } => until_told_to_end(client::hear(&target)).await,
        Program::Once { url, pause_ms, into } => {
            until_told_to_end(once(&url, Duration::from_millis(pause_ms), into.as_deref())).await
        }
        Program::Last { url, pause_ms } => last(&url, Duration::from_millis(pause_ms)).await,
        Program::Post { url } => until_told_to_end(client::post(&url)).await,
        Program::First { url } => until_told_to_end(client::first(&url)).await,
        Program::Keep { url, seconds } => until_told_to_end(client::keep(&url, Duration::from_secs(seconds))).await,
        Program::Watch { urls, pause_ms } => {
            until_told_to_end(watch::run(&urls, Duration::from_millis(pause_ms))).await
        }
        Program::Load { url, rate, seconds } => load::run(&url, rate, Duration::from_secs(seconds)).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The first process of a container gets no signal that it does not ask for, and would be waited for in vain.
async fn until_told_to_end(program: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("asking for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => bail!("told to end"),
        result = program => result,
    }
}

async fn once(url: &client::Url, pause: Duration, into: Option<&Path>) -> Result<()> {
    sleep(pause).await;
    let said = client::once(url).await?;
    say(&said);
    let Some(file) = into else { return Ok(()) };
    let written = OpenOptions::new().append(true).open(file).and_then(|mut open| writeln!(open, "{said}"));
    written.with_context(|| format!("writing into {}", file.display()))
}

async fn last(url: &client::Url, pause: Duration) -> Result<()> {
    signal(SignalKind::terminate()).context("asking for SIGTERM")?.recv().await;
    once(url, pause, None).await
}

/// One line of what a person or a test reads.
#[expect(clippy::print_stdout, reason = "printing is what these programs are for")]
fn say(line: &str) {
    println!("{line}");
}
