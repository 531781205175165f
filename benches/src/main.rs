//! Measurements, for people: each runs beside a baseline in the same minutes, since the machine is never twice the same.
//!
//! Nothing here is a test: a busy machine makes a figure worse, not wrong.

mod figures;
mod file_envoy;
mod mesh;
mod policy;
mod startup;
mod watcher;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "osm-bench", about = "Measures the mesh on this machine; needs root.")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// How long it takes from a change of a policy until every proxy enforces it
    Policy {
        /// How many times a grant is given, and as many times taken back.
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// How many pods must enforce it.
        #[arg(long, default_value_t = 10)]
        pods: usize,
    },
    /// How long a pod takes from its making to its first answered request, by shape
    Startup {
        /// How many pods of each shape.
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// On the cluster that `scripts/cluster` has up and `osm install` has brought a mesh to.
        #[arg(long)]
        kubernetes: bool,
    },
    /// How long it takes to inject a pod, and how many come through
    Webhook {
        /// How many pods each asker asks about.
        #[arg(long, default_value_t = 500)]
        count: usize,
        /// How many ask at a time.
        #[arg(long, default_value_t = 8)]
        at_once: usize,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().bench {
        Bench::Policy { count, pods } => policy::run(count, pods),
        Bench::Startup { count, kubernetes } => startup::run(count, kubernetes),
        Bench::Webhook { count, at_once } => webhook::run(count, at_once),
    };
    match result {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What a person reads.
#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn say(text: &str) {
    println!("{text}");
}
