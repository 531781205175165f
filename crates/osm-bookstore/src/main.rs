//! The bookstore demo: a buyer and a thief, a store that sells to both, and the warehouse behind it.
//!
//! Four programs that know nothing of a mesh, in one binary: the first argument says which one it is, or the name that
//! it is called by, so that `/bookbuyer` works in an image. Flags and variables are those that users of OSM's demo know.

mod answer;
mod arguments;
mod client;
mod server;
mod shopper;
mod store;
mod warehouse;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::Program;
use crate::shopper::{Role, Shopper};
use crate::store::Bookstore;
use crate::warehouse::Bookwarehouse;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs one program until it is told to end. Only what is wrong before its start is an error.
async fn run(program: Program) -> Result<()> {
    let stop = stop_on_signals()?;
    match program {
        Program::Bookbuyer(shopping) => {
            let listener = listen("bookbuyer", shopping.listening.port).await?;
            Arc::new(Shopper::new(Role::Bookbuyer, shopping.bookstore(), shopping.pause)).run(listener, stop).await;
        }
        Program::Bookthief(shopping) => {
            let listener = listen("bookthief", shopping.listening.port).await?;
            Arc::new(Shopper::new(Role::Bookthief, shopping.bookstore(), shopping.pause)).run(listener, stop).await;
        }
        Program::Bookstore(selling) => {
            let listener = listen("bookstore", selling.listening.port).await?;
            let store = Bookstore::new(&selling.identity, selling.bookwarehouse(), selling.restock_every)?;
            Arc::new(store).run(listener, stop).await;
        }
        Program::Bookwarehouse(listening) => {
            let listener = listen("bookwarehouse", listening.port).await?;
            Arc::new(Bookwarehouse::default()).run(listener, stop).await;
        }
    }
    say("ended as it was told to");
    Ok(())
}

async fn listen(name: &str, port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("listening on port {port}; choose another with --port"))?;
    say(&format!("{name} serves HTTP on {}", listener.local_addr().context("asking for the port")?));
    Ok(listener)
}

/// The first process of a container gets no signal that it does not ask for.
fn stop_on_signals() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("asking for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("asking for SIGINT")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        // Both are cancel safe.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

/// One line of what a person or a test reads. Nobody who listens is no reason to end.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}
