//! The program itself, as a container runs it: process 1, signals, exit status, orphans.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use osm_testkit::{envoy, eventually};

use crate::lab::{DEADLINE, free_port};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_osm-sidecar");

/// A directory of one test.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("osm-process-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// A program where the sidecar's own user can start it.
    pub(crate) fn open(&self, program: &Path) -> PathBuf {
        osm_testkit::reachable_by_everybody(program, &self.0).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The agent, with a controller that is not there; `before` is what it is started with.
fn agent(dir: &Dir, before: &[&str]) -> Command {
    sidecar(dir, before, "agent")
}

fn sidecar(dir: &Dir, before: &[&str], verb: &str) -> Command {
    let authority = osm_pki::Authority::generate(osm_runtime::clock::now(), "cluster.local").unwrap();
    let program = dir.open(Path::new(PROGRAM));
    let words: Vec<&str> = before.iter().copied().chain([program.to_str().unwrap(), verb]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("POD_NAME", "client-0").env("POD_NAMESPACE", "shop").env("SERVICE_ACCOUNT", "client");
    command.env("OSM_CONTROLLER", format!("127.0.0.1:{}", free_port())).env("OSM_CONTROLLER_NAME", "osm-controller");
    command.env("OSM_ROOT_CA", authority.cert_pem()).env("OSM_ENVOY", dir.open(&envoy())).env("OSM_DRAIN_SECONDS", "0");
    command.env("OSM_STATE_DIR", dir.0.join("state")).env("OSM_TOKEN_FILE", dir.0.join("token"));
    for name in
        ["OSM_STATUS_LISTEN", "OSM_ADMIN_LISTEN", "OSM_METRICS_LISTEN", "OSM_OUTBOUND_LISTEN", "OSM_INBOUND_LISTEN"]
    {
        command.env(name, format!("127.0.0.1:{}", free_port()));
    }
    command
}

/// The children of a process, each with the first letter of its state and its command.
fn children(of: u32) -> Vec<(i32, char, String)> {
    let listed = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let known = listed.split_whitespace().filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((pid.parse().ok()?, rest.trim().chars().next()?, name.to_owned()))
    });
    known.collect()
}

pub(crate) fn envoy_of(agent: u32) -> Option<i32> {
    children(agent).into_iter().find(|(_, state, name)| *state != 'Z' && name.starts_with("envoy")).map(|(pid, ..)| pid)
}

fn ended(agent: &mut Child) -> Option<std::process::ExitStatus> {
    agent.try_wait().unwrap()
}

#[test]
fn sigterm_stops_envoy_and_then_the_agent_with_status_zero() {
    let dir = Dir::new("sigterm");
    let mut running = agent(&dir, &[]).spawn().unwrap();
    let envoy = eventually(DEADLINE, || envoy_of(running.id()));
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = eventually(DEADLINE, || ended(&mut running));
    assert!(status.success(), "{status}");
    assert!(!PathBuf::from(format!("/proc/{envoy}")).exists());
}

#[test]
fn as_process_1_it_reaps_orphans_and_still_sees_its_own_envoy_die() {
    if !geteuid().is_root() {
        say("NOT RUN, needs root: as_process_1_it_reaps_orphans_and_still_sees_its_own_envoy_die");
        return;
    }
    let dir = Dir::new("process-1");
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut running = agent(&dir, &unshare).spawn().unwrap();
    let first = eventually(DEADLINE, || children(running.id()).first().map(|(pid, ..)| u32::try_from(*pid).unwrap()));
    let envoy = eventually(DEADLINE, || envoy_of(first));
    // A process whose parent ends at once: its new parent is process 1 of the namespace.
    let enter = format!("--target={first}");
    let orphan = ["--pid", "--mount", "--", "sh", "-c", "(sleep 0.2; exit 3) & (sleep 0.3) & exit 0"];
    assert!(Command::new("nsenter").arg(enter).args(orphan).status().unwrap().success());
    eventually(DEADLINE, || children(first).len() >= 2);
    eventually(DEADLINE, || children(first).len() == 1);
    kill(Pid::from_raw(envoy), Signal::SIGKILL).unwrap();
    eventually(DEADLINE, || envoy_of(first).is_some_and(|next| next != envoy));
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGTERM).unwrap();
    let status = eventually(DEADLINE, || ended(&mut running));
    assert!(status.success(), "{status}");
}

#[test]
fn another_user_can_neither_stop_envoy_nor_ask_for_secrets() {
    let name = "another_user_can_neither_stop_envoy_nor_ask_for_secrets";
    if !geteuid().is_root() {
        say(&format!("NOT RUN, needs root: {name}"));
        return;
    }
    // As an emptyDir is: it belongs to root, and everybody may write.
    let dir = Dir::new("other-user");
    let state = dir.0.join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let become_sidecar = ["setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", "--no-new-privs"];
    let mut running = agent(&dir, &become_sidecar).spawn().unwrap();
    eventually(DEADLINE, || envoy_of(running.id()));
    for socket in ["xds.sock", "admin.sock"] {
        let path = state.join("agent").join(socket);
        eventually(DEADLINE, || path.exists());
        assert_eq!(connect_as(1500, &path), Ok(()), "{socket}");
        assert_eq!(connect_as(1000, &path), Err(ErrorKind::PermissionDenied), "{socket}");
    }
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(eventually(DEADLINE, || ended(&mut running)).success());
}

#[test]
fn merged_becomes_an_agent_without_rights_when_the_rules_are_in_place() {
    let name = "merged_becomes_an_agent_without_rights_when_the_rules_are_in_place";
    if !geteuid().is_root() {
        say(&format!("NOT RUN, needs root: {name}"));
        return;
    }
    let dir = Dir::new("merged");
    let state = dir.0.join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    // As its container has it, in a network namespace of its own.
    let network = ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "--"];
    let rights = "--bounding-set=-all,+net_admin,+net_raw,+setgid,+setpcap,+setuid";
    let contained =
        [&network[..], &["setpriv", rights, "--inh-caps=-all", "--no-new-privs", "--clear-groups"]].concat();
    let mut running = sidecar(&dir, &contained, "merged").spawn().unwrap();
    let mut hook = sidecar(&dir, &[], "installed").spawn().unwrap();
    let status = eventually(DEADLINE, || ended(&mut hook));
    assert!(status.success(), "{status}");
    let target = running.id().to_string();
    let rules = Command::new("nsenter").args(["--net", "--target", &target, "iptables-nft-save"]).output().unwrap();
    let rules = String::from_utf8(rules.stdout).unwrap();
    assert!(rules.contains("OSM_PROXY_HOLD") && rules.contains("OSM_PROXY_OUT_REDIRECT"), "{rules}");

    let envoy = eventually(DEADLINE, || envoy_of(running.id()));
    for process in [running.id(), u32::try_from(envoy).unwrap()] {
        let said = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!((field("Uid"), field("Gid")), ("1500 1500 1500 1500".into(), "1500 1500 1500 1500".into()));
        assert_eq!((field("Groups"), field("NoNewPrivs")), (String::new(), "1".into()));
    }
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(eventually(DEADLINE, || ended(&mut running)).success());
}

#[test]
fn without_rules_merged_does_not_become_an_agent_and_nothing_more_starts() {
    let dir = Dir::new("merged-without-rules");
    std::fs::create_dir(dir.0.join("state")).unwrap();
    // Nobody may install rules without capabilities, not even root.
    let contained = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let contained = if geteuid().is_root() { &contained[..] } else { &[] };
    let output = sidecar(&dir, contained, "merged").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("the pod must not start"), "{said}");
    let hook = sidecar(&dir, &[], "installed").arg("--limit-seconds=1").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&hook.stderr).into_owned();
    assert_eq!(hook.status.code(), Some(1));
    assert!(said.contains("nothing more of this pod is started"), "{said}");
}

/// Tries to open a Unix socket as another user: this test again, in a process of that user.
fn connect_as(uid: u32, socket: &Path) -> Result<(), ErrorKind> {
    let dir = Dir::new(&format!("as-{uid}"));
    let mut again = Command::new(dir.open(&std::env::current_exe().unwrap()));
    again.args(["--exact", "process::connects", "--nocapture"]).env(CONNECT_TO, socket).uid(uid).gid(uid);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match () {
        () if said.contains("connect: yes") => Ok(()),
        () if said.contains("connect: PermissionDenied") => Err(ErrorKind::PermissionDenied),
        () => panic!("{said}"),
    }
}

const CONNECT_TO: &str = "OSM_TEST_CONNECT_TO";

/// The other half of [`connect_as`]; by itself it has nothing to try.
#[test]
fn connects() {
    let Some(path) = std::env::var_os(CONNECT_TO) else { return };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => say("connect: yes"),
        Err(error) => say(&format!("connect: {:?}", error.kind())),
    }
}

#[test]
fn what_is_missing_is_said_with_a_status_of_its_own() {
    let dir = Dir::new("missing");
    let output = agent(&dir, &[]).env("OSM_CONTROLLER", "nowhere").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(r#"OSM_CONTROLLER is "nowhere"; give host:port"#), "{said}");
    assert!(said.contains("error[sidecar-ended]: "), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = agent(&dir, &[]).env("OSM_STATUS_LISTEN", &address).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("error[port-in-use]: listening on {address} for status: ")), "{said}");
}

#[test]
fn an_envoy_that_cannot_be_started_is_said_and_tried_again() {
    let dir = Dir::new("no-envoy");
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = agent(&dir, &[]);
    let mut agent = command.env("OSM_ENVOY", "/nowhere/envoy").env("OSM_STATUS_LISTEN", &address).spawn().unwrap();
    eventually(DEADLINE, || {
        let said = page(&address, "/osm-sidecar/startup");
        said.contains("\"envoy-unstartable\"") && said.contains("/nowhere/envoy: No such file")
    });
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = eventually(DEADLINE, || ended(&mut agent));
    assert_eq!(status.code(), Some(0), "{status}");
}

/// What a server says; nothing if nobody listens.
fn page(address: &str, path: &str) -> String {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return String::new() };
    let mut said = String::new();
    let asked = stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    // A page that is cut off holds less than what is looked for.
    let _ = asked.and_then(|()| stream.read_to_string(&mut said));
    said
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output must see what was not tried")]
fn say(line: &str) {
    eprintln!("{line}");
}
