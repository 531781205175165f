//! End-to-end scenarios: real pods, real Envoy, real kernel rules.
//!
//! A scenario is a function over a [`lab::Lab`]. This program runs those whose names were asked for, says what each
//! took, and ends with a line of counts.

mod lab;
mod scenarios;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;

use lab::{Layer, Place};
use scenarios::Scenario;

#[derive(Parser)]
#[command(about = "Runs end-to-end scenarios on this machine; needs root.")]
struct Arguments {
    /// Run only scenarios whose name contains one of these. Without any, all; but on a cluster not those that show there
    /// what they show on one machine, in more time.
    names: Vec<String>,
    /// How often a repeated scenario repeats.
    #[arg(long, default_value_t = 20)]
    count: u32,
    /// What a scenario that chooses by chance begins from; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the names of the scenarios and what they show.
    #[arg(long)]
    list: bool,
    /// Run on the cluster of `scripts/cluster`, where `osm install` has brought a mesh.
    #[arg(long)]
    kubernetes: bool,
    /// Switch a layer of the start-up promise off in every sidecar, to see what it is for.
    #[arg(long, conflicts_with = "kubernetes")]
    without: Option<Layer>,
    /// Leave the labs running, to look into them; `osm local down --name NAME` takes one down.
    #[arg(long)]
    keep: bool,
}

/// What a scenario may choose by.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    /// Where it runs.
    pub(crate) place: Place,
    /// How often to repeat.
    pub(crate) count: u32,
    /// What chance begins from.
    pub(crate) seed: u64,
    /// Whether one scenario was asked for, and no other.
    pub(crate) is_alone: bool,
    /// What sidecars are to do without.
    pub(crate) without: Option<Layer>,
    /// Whether labs stay up.
    pub(crate) keep: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let place = if arguments.kubernetes { Place::Cluster } else { Place::Machine };
    let is_asked = |scenario: &&Scenario| {
        let by_name = arguments.names.iter().any(|part| scenario.name.contains(part.as_str()));
        let by_all = arguments.names.is_empty() && (arguments.list || !scenario.is_by_name_only(place));
        scenario.places.contains(&place) && (by_name || by_all)
    };
    let chosen: Vec<_> = scenarios::ALL.iter().filter(is_asked).collect();
    if arguments.list {
        chosen.iter().for_each(|scenario| say(&format!("{:32} {}", scenario.name, scenario.shows)));
        return Ok(true);
    }
    lab::check_machine(place).context("this machine cannot run the scenarios")?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let choice = Choice {
        place,
        count: arguments.count,
        seed,
        is_alone: chosen.len() == 1,
        without: arguments.without,
        keep: arguments.keep,
    };
    let (mut passed, mut failed) = (0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let result = (scenario.run)(&choice);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(figures) => {
                passed += 1;
                let figures = if figures.is_empty() { String::new() } else { format!(": {figures}") };
                say(&format!("    ok      {took:6.1} s  {}{figures}", scenario.name));
            }
            Err(error) => {
                failed += 1;
                say(&format!("    FAILED  {took:6.1} s  {} ({})\n{error:#}\n", scenario.name, scenario.shows));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(failed == 0 && passed > 0)
}

/// One line of what a person or a script reads.
#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
