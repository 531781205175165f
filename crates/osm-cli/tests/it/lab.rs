//! One runner of a test's own, taken down with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server in a language that every Debian has, which answers with its pod's name.
const SERVER: &str = r#"[perl, -MIO::Socket::INET, -e, '
      $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die;
      while ($c = $s->accept) { <$c>; print $c "HTTP/1.0 200 OK\r\n\r\n$ENV{HOSTNAME}\n"; close $c }']"#;

pub(crate) struct Lab {
    pub(crate) name: String,
    folder: PathBuf,
}

/// A lab, unless this is not root.
pub(crate) fn lab() -> Option<Lab> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    if !nix::unistd::geteuid().is_root() {
        skipped();
        return None;
    }
    let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(format!("osm-{name}"));
    fs::create_dir_all(&folder).unwrap();
    Some(Lab { name, folder })
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must know that some did not run")]
fn skipped() {
    eprintln!("SKIPPED: network namespaces need root");
}

pub(crate) fn osm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_osm")).args(arguments).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Lab {
    pub(crate) fn osm(&self, verb: &str, arguments: &[&str]) -> Output {
        osm(&[&["local", verb, "--name", &self.name], arguments].concat())
    }

    /// What the command said; it must succeed.
    pub(crate) fn done(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.osm(verb, arguments);
        assert!(output.status.success(), "osm local {verb} {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn up(&self, manifests: &str) {
        let file = self.file("up.yaml", manifests);
        self.done("up", &["-f", &file, "--timeout", "30s"]);
    }

    pub(crate) fn apply(&self, manifests: &str) -> Output {
        let file = self.file("apply.yaml", manifests);
        self.osm("apply", &["-f", &file])
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.done("status", &["-o", "json"])).unwrap()
    }

    pub(crate) fn pod(&self, name: &str) -> Value {
        let status = self.status();
        let pods = status["pods"].as_array().unwrap();
        pods.iter().find(|pod| pod["name"] == name).cloned().unwrap_or_default()
    }

    pub(crate) fn sh(&self, pod: &str, script: &str) -> Output {
        self.osm("exec", &[pod, "--", "bash", "-c", script])
    }

    /// The answer to a request from a pod.
    pub(crate) fn get(&self, pod: &str, host: &str, port: u16) -> Result<String, String> {
        let script = format!("exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3");
        let output = self.sh(pod, &script);
        let answer = said(&output);
        answer.strip_prefix("HTTP/1.0 200 OK\r\n\r\n").map(|body| body.trim().to_owned()).ok_or(answer)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.osm("down", &[]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn pod(name: &str, labels: &str, command: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  containers:\n  - name: \
         main\n    image: any\n    command: {command}\n"
    )
}

pub(crate) fn idle(name: &str) -> String {
    pod(name, "", "[sleep, infinity]")
}

pub(crate) fn server(name: &str) -> String {
    pod(name, "app: web", SERVER) + "    readinessProbe: {httpGet: {port: 8080}}\n"
}

pub(crate) fn web_service(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80, \
         targetPort: 8080}}]{more}}}\n"
    )
}
