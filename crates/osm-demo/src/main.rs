//! Small programs of the demo and of the end-to-end scenarios: servers, a client that connects once, a load.
//!
//! They are written as applications that know nothing of a mesh: no retry, no wait, plain HTTP.

mod client;
mod load;
mod server;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

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
        /// Port to listen on.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Name in the greeting.
        #[arg(long, env = "HOSTNAME", default_value = "server")]
        name: String,
    },
    /// Serve a protocol in which the server speaks first: one line, then everything is echoed.
    Greet {
        /// Port to listen on.
        #[arg(long, default_value_t = 3306)]
        port: u16,
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
        Program::Serve { port, name } => server::serve(port, name).await,
        Program::Greet { port } => until_told_to_end(server::greet(port)).await,
        Program::Hear { target } => until_told_to_end(client::hear(&target)).await,
        Program::Once { url } => until_told_to_end(client::once(&url)).await,
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

/// One line of what a person or a test reads.
#[expect(clippy::print_stdout, reason = "printing is what these programs are for")]
fn say(line: &str) {
    println!("{line}");
}
