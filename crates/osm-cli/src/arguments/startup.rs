//! What is typed to see how pods started: `osm startup`.

use clap::Args;

use super::{Output, Target};

#[derive(Debug, Args)]
#[command(after_help = STARTUP_HELP)]
pub(crate) struct PodStartup {
    /// The pod: NAME or NAMESPACE/NAME
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) pod: Option<String>,
    /// The pod's namespace [default: default]; with --all, the pods of this namespace only
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Every pod of the mesh: how long each phase took, those that wait and the slowest first
    #[arg(long)]
    pub(crate) all: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
    /// Ask this local runner; when absent, one of the name osm if it is up, else the cluster
    #[arg(long, value_name = "NAME", env = "OSM_LOCAL_NAME", hide_env_values = true)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

const STARTUP_HELP: &str = "\
Examples:
  osm startup shop/client
  osm startup client -n shop -o json
  osm startup --all -n shop";
