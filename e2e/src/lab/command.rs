//! Running a command and taking what it printed.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) command: String,
    /// The exit status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed on stdout, if it ended well.
    pub(crate) fn success(&self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout.clone());
        }
        bail!(
            "{}\nended with {:?}\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }

    /// All that it printed.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<Output> {
    finish(&mut start(program, arguments)?)
}

/// Runs a command with one more variable in its environment to its end.
pub(crate) fn run_with(variable: (&str, &Path), program: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.env(variable.0, variable.1);
    finish(&mut spawn(command, program, arguments)?)
}

/// Starts a command whose output is kept for [`finish`].
pub(crate) fn start(program: &Path, arguments: &[&str]) -> Result<Child> {
    spawn(Command::new(program), program, arguments)
}

/// Starts a command that prints into a file.
pub(crate) fn start_into(program: &Path, arguments: &[&str], file: &Path) -> Result<Child> {
    let stdout = File::create(file).with_context(|| format!("creating {}", file.display()))?;
    spawn_into(Command::new(program), program, arguments, Stdio::from(stdout))
}

fn spawn(command: Command, program: &Path, arguments: &[&str]) -> Result<Child> {
    spawn_into(command, program, arguments, Stdio::piped())
}

fn spawn_into(mut command: Command, program: &Path, arguments: &[&str], stdout: Stdio) -> Result<Child> {
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {} {}", program.display(), arguments.join(" ")))
}

/// Waits for a command's end and takes what it printed.
pub(crate) fn finish(child: &mut Child) -> Result<Output> {
    use std::io::Read;
    let mut stderr_pipe = child.stderr.take();
    // Both pipes are read side by side: a command that fills one must not wait for the other to be read.
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr_pipe.as_mut().map(|pipe| pipe.read_to_end(&mut text));
        text
    });
    let mut stdout = Vec::new();
    if let Some(pipe) = child.stdout.as_mut() {
        pipe.read_to_end(&mut stdout)?;
    }
    let status = child.wait()?;
    Ok(Output {
        command: format!("process {}", child.id()),
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned(),
    })
}
