//! The program `osm-controller`.

use anyhow::Context;
use clap::Parser;
use osm_controller::{Args, Config, Listeners, run};
use osm_runtime::{Tasks, Version, telemetry};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry::init(args.log_format, &args.verbosity)?;
    let config = Config::try_from(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let Version { version, git_commit, .. } = Version::of_this_build();
        tracing::info!(version, git_commit, "osm-controller starts");
        let tasks = Tasks::new();
        tasks.stop_on_signals()?;
        let listeners = Listeners::bind(&config).await?;
        run(config, listeners, tasks.stop()).await
    })
}
