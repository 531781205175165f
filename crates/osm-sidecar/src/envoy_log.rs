//! What Envoy writes: passed on to our own log, with the last line kept for the one who wants to know why it ended.

use std::io::{Write, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::task::JoinHandle;

/// Its pipe ends with it, unless something that it started lives on.
const END_LIMIT: Duration = Duration::from_millis(200);

/// A longer line is cut when it is quoted.
const QUOTED_CHARS_MAX: usize = 300;

/// The last line that one run of Envoy wrote.
#[derive(Debug)]
pub(crate) struct LastLine {
    line: Arc<Mutex<String>>,
    pump: Option<JoinHandle<()>>,
}

impl LastLine {
    /// Passes on what the process writes to its standard error, as long as it writes.
    pub(crate) fn of(process: &mut Child) -> LastLine {
        let line = Arc::<Mutex<String>>::default();
        let pump = process.stderr.take().map(|pipe| tokio::spawn(pass_on(pipe, line.clone())));
        LastLine { line, pump }
    }

    /// The last line, once all of it has been read.
    pub(crate) async fn take(mut self) -> String {
        if let Some(pump) = self.pump.take() {
            // What is not read by then is late for everybody.
            let _ = tokio::time::timeout(END_LIMIT, pump).await;
        }
        self.line.lock().unwrap_or_else(PoisonError::into_inner).chars().take(QUOTED_CHARS_MAX).collect()
    }
}

async fn pass_on(pipe: ChildStderr, last: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        // A log that nobody takes must not stop Envoy.
        let _ = stderr().lock().write_all(&line);
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if !text.is_empty() {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_last_line_is_kept_and_an_empty_one_is_none() {
        let script = "echo first >&2; echo ' the last ' >&2; echo >&2";
        let mut process = Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let last = LastLine::of(&mut process);
        process.wait().await.unwrap();
        assert_eq!(last.take().await, "the last");
    }
}
