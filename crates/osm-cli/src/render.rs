//! Everything that is printed.

mod explained;
mod meshes;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use comfy_table::Table;
use osm_api::{Problem, Reason};
use osm_local::status::{ContainerStatus, PodStatus, Status};
use osm_local::{Changes, Failure, Outcome};
use osm_resolve::Explanation;
use serde::Serialize;

pub(crate) use explained::explained;
pub(crate) use meshes::{members, meshes, versions};

use crate::arguments::Output;
use crate::startup::{self, Startup};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// An error on standard error: what, then an empty line and what to do.
pub(crate) fn error(error: &anyhow::Error) {
    let hint = error.downcast_ref::<Failure>().map(|failure| failure.hint.as_str()).unwrap_or_default();
    let mut text = format!("{RED}error{RED:#}: {error:#}\n");
    if !hint.is_empty() {
        text.push_str(&format!("\n{CYAN}hint{CYAN:#}: {hint}\n"));
    }
    talk(&text);
}

/// A line of talk on standard error.
pub(crate) fn say(line: &str) {
    talk(&format!("{line}\n"));
}

/// A question on standard error, whose line is left open.
pub(crate) fn ask(question: &str) {
    talk(question);
}

/// Something that does not stop the command, on standard error.
pub(crate) fn warning(text: &str) {
    talk(&format!("{YELLOW}warning{YELLOW:#}: {text}\n"));
}

/// A line of what was asked for, on standard output.
pub(crate) fn line(line: &str) {
    print(&format!("{line}\n"));
}

/// What happened to objects, on standard output; what is wrong with them, on standard error.
pub(crate) fn changes(changes: &Changes) {
    let mut text = String::new();
    for (object, outcome) in &changes.objects {
        let word = match outcome {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
            Outcome::Deleted => "deleted",
            Outcome::NotFound => "not found",
        };
        text.push_str(&format!("{object} {word}\n"));
    }
    print(&text);
    problems(&changes.problems, &changes.warnings);
}

/// Problems and warnings on standard error, one a line.
fn problems(problems: &[Problem], warnings: &[Problem]) {
    for problem in problems {
        let (style, word) = if is_error(problem) { (RED, "error") } else { (YELLOW, "warning") };
        talk(&format!("{style}{word}{style:#}: {problem}\n"));
    }
    for warning in warnings {
        talk(&format!("{YELLOW}warning{YELLOW:#}: {warning}\n"));
    }
}

/// Whether an object is not what its author wanted, so that a script should stop.
pub(crate) fn is_error(problem: &Problem) -> bool {
    match problem.reason {
        Reason::Syntax
        | Reason::InvalidField
        | Reason::Duplicate
        | Reason::Conflict
        | Reason::Missing
        | Reason::Refused => true,
        Reason::UnknownKind | Reason::UnknownField | Reason::Unsupported => false,
    }
}

/// The status in the form asked for.
pub(crate) fn status(status: &Status, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&tables(status));
            problems(&status.problems, &status.warnings);
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(status, output),
    }
}

/// How a pod started, in the form asked for.
pub(crate) fn startup(startup: &Startup, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&startup.waterfall(columns()));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(startup, output),
    }
}

/// How pods started, in the form asked for.
pub(crate) fn startups(startups: &[Startup], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            let (header, rows) = startup::table(startups);
            print(&table(&header, rows.into_iter()));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(&startups, output),
    }
}

/// The width of the terminal that is written to; of a file, that of a page.
fn columns() -> usize {
    const OF_A_PAGE: usize = 100;
    terminal_size::terminal_size_of(io::stdout()).map_or(OF_A_PAGE, |(width, _)| usize::from(width.0))
}

/// An explanation in the form asked for.
pub(crate) fn explanation(explanation: &Explanation, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&explained(explanation));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(explanation, output),
    }
}

/// What holds between two pods, in OSM's words.
pub(crate) fn pods_checked(source: &str, destination: &str, explanation: &Explanation) {
    print(&explained::pods_checked(source, destination, explanation));
}

/// A page to standard output as it is. A reader that has left (`osm ... | head`) wants no more.
pub(crate) fn page(page: &[u8]) -> anyhow::Result<()> {
    match bytes(page) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("printing"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Bytes to standard output as they are.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

/// For programs.
pub(crate) fn serialized(value: &impl Serialize, output: Output) -> anyhow::Result<()> {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(value)?,
        Output::Json | Output::Table => serde_json::to_string_pretty(value)?,
    };
    print(&format!("{}\n", text.trim_end()));
    Ok(())
}

fn tables(status: &Status) -> String {
    let controller = &status.controller;
    let how = if controller.ready {
        format!("{GREEN}ready{GREEN:#}")
    } else {
        format!("{YELLOW}{}{YELLOW:#}", controller.reason)
    };
    let mut text = format!("runner {} (process {}), controller {how}\n\n", status.name, status.pid);
    if status.pods.is_empty() {
        text.push_str("no pods\n");
    } else {
        let header = ["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "MESH", "WAITS FOR"];
        text.push_str(&table(&header, status.pods.iter().map(pod_row)));
    }
    if !status.services.is_empty() {
        let header = ["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "READY ENDPOINTS"];
        let rows = status.services.iter().map(|service| {
            let address = service.cluster_ip.map_or("None".into(), |ip| ip.to_string());
            let endpoints: Vec<String> = service.ready_endpoints.iter().map(ToString::to_string).collect();
            vec![service.namespace.clone(), service.name.clone(), address, service.ports.join(","), endpoints.join(",")]
        });
        text.push('\n');
        text.push_str(&table(&header, rows));
    }
    text
}

fn pod_row(pod: &PodStatus) -> Vec<String> {
    let is_lasting = |c: &&ContainerStatus| c.role != osm_local::pod::Role::Init;
    let all = pod.containers.iter().filter(is_lasting).count();
    let ready = pod.containers.iter().filter(is_lasting).filter(|c| c.ready).count();
    let restarts: u32 = pod.containers.iter().map(|c| c.restarts).sum();
    let phase = if pod.terminating { "Terminating".to_owned() } else { format!("{:?}", pod.phase) };
    vec![
        pod.namespace.clone(),
        pod.name.clone(),
        format!("{ready}/{all}"),
        phase,
        restarts.to_string(),
        pod.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        pod.injected.as_deref().and_then(|shape| shape.split(':').next()).unwrap_or("-").to_owned(),
        pod.reason.clone(),
    ]
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    rows.for_each(|row| {
        table.add_row(row);
    });
    let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// To standard output. A reader that has left (`osm ... | head`) wants no more.
fn print(text: &str) {
    let _ = anstream::stdout().write_all(text.as_bytes());
}

fn talk(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}
