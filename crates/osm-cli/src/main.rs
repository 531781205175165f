//! The command `osm`. Data goes to standard output, talk to standard error.

mod arguments;
mod cluster;
mod explain;
mod install;
mod local;
mod manifests;
mod meaning;
mod mesh;
mod meshes;
mod namespaces;
mod proxy;
mod render;
mod settings;
mod startup;
mod uninstall;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, Policy, Proxy, Uninstall};

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
    let before = arguments.target;
    match arguments.command {
        Command::Install(arguments) => runtime.block_on(install::run(*arguments, before)),
        Command::Uninstall(Uninstall::Mesh(arguments)) => runtime.block_on(uninstall::run(arguments, before)),
        Command::Mesh(command) => runtime.block_on(mesh::run(command, before)),
        Command::Namespace(command) => runtime.block_on(namespaces::run(command, before)),
        Command::Local(command) => runtime.block_on(local::run(command)),
        Command::Startup(arguments) => runtime.block_on(startup::run(arguments, before)),
        Command::Proxy(Proxy::Get(arguments)) => runtime.block_on(proxy::get(arguments)),
        Command::Explain(arguments) => runtime.block_on(explain::run(arguments)),
        Command::Policy(Policy::CheckPods(arguments)) => runtime.block_on(explain::check_pods(arguments)),
        Command::Completion(wanted) => {
            let mut script = Vec::new();
            clap_complete::generate(wanted.shell, &mut Arguments::command(), "osm", &mut script);
            render::page(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Env(arguments) => runtime.block_on(settings::env(arguments, before)),
        Command::Version(wanted) => runtime.block_on(settings::version(wanted, before)),
    }
}
