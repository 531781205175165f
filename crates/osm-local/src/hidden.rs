//! The subcommands that `osm` calls itself with. They are nobody else's business and in no help text.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use osm_startup::{LastWords, Reason};

use crate::container::ImageFault;
use crate::{container, enter, first_process, runner};

/// Becomes the first process of a runner.
pub(crate) const FIRST_PROCESS: &str = "__first-process";
/// Becomes the runner.
pub(crate) const RUNNER: &str = "__runner";
/// Becomes a container.
pub(crate) const CONTAINER: &str = "__container";
/// Becomes a process in a container or beside the runner.
pub(crate) const ENTER: &str = "__enter";

/// As shells have it: the program could not be started.
const CANNOT_START: u8 = 127;

/// Runs the hidden subcommand that the arguments ask for; none when they ask for something else. A program that is a
/// front end of the runner calls this before it looks at its arguments.
pub fn run_hidden(arguments: &[OsString]) -> Option<ExitCode> {
    let subcommand = arguments.get(1)?.to_str()?;
    let argument = arguments.get(2).map(Path::new).unwrap_or(Path::new(""));
    let name = argument.to_string_lossy();
    match subcommand {
        FIRST_PROCESS => Some(ended(first_process::run(&name))),
        RUNNER => Some(ended(runner::run(&name))),
        CONTAINER => Some(cannot_become(container::become_container(argument))),
        ENTER => Some(cannot_become(enter::become_entered(argument))),
        _ => None,
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn cannot_become(result: anyhow::Result<Infallible>) -> ExitCode {
    let Err(error) = result;
    say(&error);
    if error.downcast_ref::<ImageFault>().is_some() {
        let words = LastWords::new(Reason::ImageMissing, &format!("{error:#}"));
        let _ = writeln!(std::io::stderr(), "{words}");
    }
    ExitCode::from(CANNOT_START)
}

/// To standard error, which is the log of whom this process was to become.
fn say(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "osm: {error:#}");
}
