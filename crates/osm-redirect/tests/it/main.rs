//! What the rules are (golden), what always holds of them (properties), and what the kernel makes of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end")]

mod golden;
mod kernel;
mod namespace;
mod properties;

use clap::Parser;
use osm_redirect::Redirect;

/// A command line with our arguments, as that of `osm-init`.
#[derive(Debug, Parser)]
#[command(name = "osm-init", no_binary_name = true)]
struct CommandLine {
    #[command(flatten)]
    redirect: Redirect,
}
