//! The command `osm`. Data goes to standard output, talk to standard error.

mod arguments;
mod explain;
mod local;
mod manifests;
mod meaning;
mod proxy;
mod render;
mod startup;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, Policy, Proxy};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = osm_local::run_hidden(&arguments) {
        return code;
    }
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            render::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    match arguments.command {
        Command::Local(command) => runtime.block_on(local::run(command)),
        Command::Proxy(Proxy::Get(arguments)) => runtime.block_on(proxy::get(arguments)),
        Command::Explain(arguments) => runtime.block_on(explain::run(arguments)),
        Command::Policy(Policy::CheckPods(arguments)) => runtime.block_on(explain::check_pods(arguments)),
        Command::Completion(wanted) => {
            let mut script = Vec::new();
            clap_complete::generate(wanted.shell, &mut Arguments::command(), "osm", &mut script);
            render::page(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version(wanted) => {
            render::version(wanted.output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
