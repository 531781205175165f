//! What differs between the places where a lab can be.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Output, Status};

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `osm local`: pods as processes on this machine.
    Machine,
    /// A mesh that `osm install` has brought onto the cluster of `scripts/cluster`.
    Cluster,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// The address families of a lab's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// IPv4 at least; a cluster's is as it was made.
    V4,
    /// IPv4 and IPv6.
    DualStack,
}

/// Whose processes are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// A pod's, by `namespace/name`.
    Pod(&'a str),
    /// Everybody's.
    Everybody,
}

/// One mesh, wherever it is.
pub(crate) trait Driver {
    /// Brings up a mesh with these manifests and waits until its pods are ready.
    fn up(&self, manifests: &Path, network: Network) -> Result<()>;

    /// Takes away what `up` and `apply` have made.
    fn down(&self);

    /// Applies a file, whatever comes of it.
    fn apply(&self, file: &Path) -> Result<Output>;

    /// Deletes the objects of a file and waits until they are gone.
    fn delete(&self, file: &Path) -> Result<Output>;

    /// What runs a command in a container of a pod; in its first own one if none is named.
    fn exec(&self, pod: &str, container: Option<&str>, command: &[&str]) -> CommandLine;

    /// What runs `osm-demo` in a pod whose first own container has it, without delay.
    fn run_demo(&self, pod: &str, arguments: &[&str]) -> Result<CommandLine>;

    /// What a container has written so far.
    fn logs(&self, pod: &str, container: &str) -> Result<Output>;

    /// How everything is.
    fn status(&self) -> Result<Status>;

    /// The path of `osm-demo` where it runs in pods.
    fn demo(&self) -> Result<String>;

    /// Sends a signal to every process of a program; an error if there is none.
    fn signal(&self, whose: Whose<'_>, program: &str, signal: &str) -> Result<()>;

    /// Ends the first process of a pod's sidecar, and with it the container.
    fn kill_sidecar(&self, pod: &str) -> Result<()>;

    /// The process of a program in a pod, as its place counts; an error if there is none.
    fn process(&self, pod: &str, program: &str) -> Result<String>;
}

impl CommandLine {
    pub(crate) fn new(program: &Path, arguments: &[&str]) -> CommandLine {
        CommandLine {
            program: program.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<Output> {
        super::run(&self.program, &self.words())
    }

    pub(crate) fn words(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}
