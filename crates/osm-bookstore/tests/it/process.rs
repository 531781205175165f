//! The binary as a container runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A program, killed when dropped.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    /// Starts the binary under this name, on a port of its own.
    fn start(name: &str, environment: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_osm-bookstore"))
            .arg0(name)
            .args(["--port", "0"])
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let port = first.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {first:?}"));
        Running { child, lines, port }
    }

    fn ask(&self, request_line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn the_name_that_the_binary_is_called_by_says_which_program_it_is() {
    let warehouse = Running::start("/bookwarehouse", &[]);
    assert!(warehouse.ask("POST /restock-books").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(warehouse.ask("GET /counters").ends_with("\r\n\r\n{\"orders\":1,\"books\":1}\n"));
}

#[test]
fn the_environment_of_osms_manifests_counts() {
    let store = Running::start("/bookstore", &[("IDENTITY", "bookstore-v9"), ("BOOKWAREHOUSE_NAMESPACE", "invalid")]);
    assert!(store.ask("GET /buy-a-book/new").contains("\r\nidentity: bookstore-v9\r\n"));

    let environment = [
        ("BOOKSTORE_SVC", "store"),
        ("BOOKSTORE_NAMESPACE", "invalid"),
        ("CI_SLEEP_BETWEEN_REQUESTS_SECONDS", "0.01"),
        // Kubernetes sets it beside a service `bookstore`, and it is no port.
        ("BOOKSTORE_PORT", "tcp://10.96.0.7:14001"),
    ];
    let mut thief = Running::start("/bookthief", &environment);
    // No such host: it says so, for both of its requests, and goes on.
    for path in ["/books-bought", "/buy-a-book/new", "/books-bought"] {
        let line = thief.line();
        assert!(line.starts_with(&format!("GET http://store.invalid:14001{path}: no answer: connecting: ")), "{line}");
    }
}

#[test]
fn a_program_ends_with_success_when_it_is_told_to() {
    let mut warehouse = Running::start("/bookwarehouse", &[]);
    let told = Command::new("kill").args(["-TERM", &warehouse.child.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(warehouse.child.wait().unwrap().success());
    assert_eq!(warehouse.line(), "ended as it was told to\n");
}
