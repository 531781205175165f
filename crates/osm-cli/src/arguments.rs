//! The command line, as typed.

mod cluster;
mod mesh;
mod startup;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use cluster::{
    AddNamespaces, ChosenValues, Env, IgnoreNamespaces, Install, ListMeshes, ListNamespaces, Mesh, Namespace,
    RemoveNamespaces, Target, Uninstall, UninstallMesh, Upgrade, Version,
};
pub(crate) use mesh::{Asked, CheckPods, Explain, Policy, Proxy, ProxyGet};
pub(crate) use startup::PodStartup;

/// Operate an Open Service Mesh.
#[derive(Debug, Parser)]
#[command(name = "osm", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install a mesh in a Kubernetes cluster
    Install(Box<Install>),
    /// Take a mesh out of a cluster
    #[command(subcommand)]
    Uninstall(Uninstall),
    /// List and upgrade the meshes of a cluster
    #[command(subcommand)]
    Mesh(Mesh),
    /// Say which namespaces belong to a mesh
    #[command(subcommand, visible_alias = "ns")]
    Namespace(Namespace),
    /// Run manifests on this machine, without a cluster
    #[command(subcommand)]
    Local(Local),
    /// Show how a pod started, and what it waits for while it is held
    Startup(PodStartup),
    /// Look into the proxy of a pod
    #[command(subcommand)]
    Proxy(Proxy),
    /// Say whether something may be reached, and by which objects
    Explain(Explain),
    /// Check policies
    #[command(subcommand)]
    Policy(Policy),
    /// Print a script that completes this command's words in a shell
    Completion(Completion),
    /// Print which cluster and namespace commands go to
    Env(Env),
    /// Print the versions of this command and of the meshes
    Version(Version),
}

#[derive(Debug, Args)]
#[command(after_help = COMPLETION_HELP)]
pub(crate) struct Completion {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

const COMPLETION_HELP: &str = "\
To have it in every shell from now on:
  bash:  osm completion bash > /etc/bash_completion.d/osm
  zsh:   osm completion zsh > \"${fpath[1]}/_osm\"
  fish:  osm completion fish > ~/.config/fish/completions/osm.fish";

#[derive(Debug, Subcommand)]
pub(crate) enum Local {
    /// Start the runner and apply manifests
    Up(Up),
    /// End the runner and everything that it started
    Down(Name),
    /// Show pods, services and problems
    Status(Status),
    /// Show how a pod started, and what it waits for while it is held
    Startup(Startup),
    /// Print what a container wrote
    Logs(Logs),
    /// Run a command in a container, or beside the runner
    Exec(Exec),
    /// Create or change objects
    Apply(Apply),
    /// Delete objects
    Delete(Delete),
}

/// Which runner.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The runner: several can be up at a time
    #[arg(long, value_name = "NAME", default_value = "osm", env = "OSM_LOCAL_NAME", hide_env_values = true)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// A file of manifests, a directory of them, or `-` for standard input
    #[arg(short, long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// What each image is on this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) images: Option<PathBuf>,
    /// Give pods IPv6 addresses too, and services those that they ask for
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Stay until Ctrl-C, then take everything down
    #[arg(long)]
    pub(crate) foreground: bool,
    /// How long to wait until all pods are ready; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Startup {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// The pod: NAME or NAMESPACE/NAME
    pub(crate) pod: String,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// The pod: NAME or NAMESPACE/NAME
    #[arg(required_unless_present_any = ["of_runner", "of_controller"])]
    pub(crate) pod: Option<String>,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The container; the first one of the pod's own when absent
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Go on until the pod is gone
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print the runner's own log
    #[arg(long = "runner", conflicts_with_all = ["pod", "of_controller"])]
    pub(crate) of_runner: bool,
    /// Print the controller's log
    #[arg(long = "controller", conflicts_with = "pod")]
    pub(crate) of_controller: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// The pod: NAME or NAMESPACE/NAME
    #[arg(required_unless_present = "node")]
    pub(crate) pod: Option<String>,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The container; the first one of the pod's own when absent
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Where packets of all pods pass and all processes are seen, instead of in a pod
    #[arg(long, conflicts_with_all = ["pod", "container"])]
    pub(crate) node: bool,
    /// Program and arguments; its exit code is passed on
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// A file of manifests, a directory of them, or `-` for standard input
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How long to wait until all pods are ready; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) runner: Name,
    /// A file of manifests, a directory of them, or `-` for standard input
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `90s`, `2m`, `1m30s`, `500ms`, or a number of seconds, as kubectl and OSM take them.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write for example 90s, 2m or 500ms");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..length] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        total += unit.checked_mul(number).ok_or_else(wrong)?;
        rest = &rest[length..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_says_what_there_is() {
        osm_testkit::golden_text(env!("CARGO_MANIFEST_DIR"), "help", |case| {
            let words = case.option("command").unwrap_or_default().split_whitespace();
            let with_help = ["osm"].into_iter().chain(words).chain(["--help"]);
            let command = Arguments::command().term_width(100);
            command.try_get_matches_from(with_help).expect_err("help ends the parsing").to_string()
        });
    }

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "osm", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["startup", "completion", "namespace"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn times_are_written_as_everywhere() {
        let check = |text: &str, ms: u64| assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        check("60s", 60_000);
        check("1m30s", 90_000);
        check("500ms", 500);
        check("0", 0);
        for wrong in ["", "s", "5x", "1s5", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let parsed =
            Arguments::try_parse_from(["osm", "local", "exec", "a/b", "-c", "envoy", "--", "ls", "-c"]).unwrap();
        let Command::Local(Local::Exec(exec)) = parsed.command else { panic!("not exec") };
        assert_eq!((exec.pod.as_deref(), exec.container.as_deref()), (Some("a/b"), Some("envoy")));
        assert_eq!(exec.command, ["ls", "-c"]);
        assert!(Arguments::try_parse_from(["osm", "local", "exec", "--", "ls"]).is_err());
        assert!(Arguments::try_parse_from(["osm", "local", "exec", "--node", "--", "ls"]).is_ok());
    }
}
