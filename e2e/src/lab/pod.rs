//! A pod of a lab, and what is done in it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{Background, Lab, Output, Place, Whose, run, wait_for};

/// Counts connections that were redirected to the sidecar and that somebody has accepted. The kernel finds them by their
/// port, however many others there are. One that nobody has accepted has no inode.
const ACCEPTED: &str = "ss -Htne state established state close-wait sport = :15001 | grep -vc 'ino:0 '";

/// The same, and those that wait to be accepted.
const ESTABLISHED: &str = "ss -Htn state established state close-wait sport = :15001 | wc -l";

/// A function of the shell: how many connections to somebody in the pod have been established so far.
const OPENED: &str = "opened() { awk '/^Tcp: [0-9]/ {print $7}' /proc/net/snmp; }";

/// A pod by `namespace/name`.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    lab: &'a Lab,
    name: &'a str,
}

/// What `osm-demo load` counted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LoadCounts {
    pub(crate) tried: u64,
    pub(crate) ok: u64,
    pub(crate) other_status: u64,
    pub(crate) refused: u64,
    pub(crate) reset: u64,
    pub(crate) timed_out: u64,
    pub(crate) failed: u64,
    pub(crate) slowest_ms: u64,
    pub(crate) p99_ms: u64,
}

impl<'a> Pod<'a> {
    pub(super) fn new(lab: &'a Lab, name: &'a str) -> Pod<'a> {
        Pod { lab, name }
    }

    /// Runs a command in the pod's first own container.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<Output> {
        self.lab.driver().exec(self.name, None, command).run()
    }

    /// Runs a command in a container of the pod.
    pub(crate) fn exec_in(&self, container: &str, command: &[&str]) -> Result<Output> {
        self.lab.driver().exec(self.name, Some(container), command).run()
    }

    /// Starts `osm-demo` in the pod's first own container.
    pub(crate) fn demo_in_background(&self, arguments: &[&str]) -> Result<Background> {
        Background::start(&self.lab.driver().run_demo(self.name, arguments)?)
    }

    /// Runs `osm-demo` in the pod's first own container.
    pub(crate) fn exec_demo(&self, arguments: &[&str]) -> Result<Output> {
        self.lab.driver().run_demo(self.name, arguments)?.run()
    }

    /// One request without retries from the pod: the body of an answer with status 200, an error otherwise.
    pub(crate) fn get(&self, url: &str) -> Result<String> {
        let output = self.exec_demo(&["once", url])?;
        let said = output.success().with_context(|| format!("{} asks {url}", self.name))?;
        let (_, body) = said.split_once(" body ").context("the answer has no body")?;
        Ok(body.to_owned())
    }

    /// What the agent of the pod says on one of its own ports.
    pub(crate) fn admin(&self, path: &str) -> Result<String> {
        self.get(&format!("http://127.0.0.1:15000{path}"))
    }

    /// A counter or gauge of the pod's Envoy; 0 if it has none of that name.
    pub(crate) fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.admin("/stats")?;
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(Ok(0), |value| value.parse().with_context(|| format!("{name} is {value}")))
    }

    /// Requests of the pod to `shop/server` so far.
    pub(crate) fn requests(&self) -> Result<u64> {
        self.stat("cluster.shop/server|80.upstream_rq_total")
    }

    /// Waits until there are more of them: a load has begun.
    pub(crate) fn wait_for_requests(&self, more_than: u64) -> Result<()> {
        wait_for("the load has begun", || {
            let now = self.requests()?;
            ensure!(now > more_than, "{now} requests so far");
            Ok(())
        })
    }

    /// The timeline of the pod's sidecar.
    pub(crate) fn startup(&self) -> Result<Value> {
        serde_json::from_str(&self.get("http://127.0.0.1:15904/osm-sidecar/startup")?).context("reading the timeline")
    }

    /// Kills the pod's Envoy and waits until another one is programmed.
    pub(crate) fn kill_envoy(&self) -> Result<()> {
        let before = self.envoy_process()?;
        self.lab.driver().signal(Whose::Pod(self.name), "envoy", "KILL")?;
        self.wait_for_another_envoy(&before)
    }

    /// Sends a signal to the pod's Envoy. The answer is how many of the connections that were redirected to it somebody
    /// had accepted at that moment: Envoy is made to stand still while they are counted. The agent may end it first for that.
    pub(crate) fn signal_envoy(&self, signal: &str) -> Result<u64> {
        let process = self.envoy_process()?;
        let script = format!("kill -STOP {process} || exit; n=$({ACCEPTED}); kill -{signal} {process} 2>&-; echo $n");
        match self.lab.place() {
            Place::Machine => {
                self.count_in_namespaces(&self.lab.machine()?.first_process(self.name)?, &["--net", "--pid"], &script)
            }
            Place::Cluster => number(&self.in_network(&["sh", "-c", &script])?),
        }
    }

    /// Waits until an Envoy other than this one is programmed.
    pub(crate) fn wait_for_another_envoy(&self, before: &str) -> Result<()> {
        wait_for("another Envoy is programmed", || {
            ensure!(self.envoy_process()? != before, "the old Envoy is still there");
            self.get("http://127.0.0.1:15904/osm-sidecar/ready")
        })?;
        Ok(())
    }

    /// Kills the pod's whole sidecar container.
    pub(crate) fn kill_sidecar(&self) -> Result<()> {
        self.lab.driver().kill_sidecar(self.name)
    }

    /// Stops the pod's Envoy until the agent has killed it for that; on a machine only. The answer is how many connections
    /// that were redirected to it somebody had accepted then.
    pub(crate) fn stop_envoy_until_killed(&self) -> Result<u64> {
        let process = self.envoy_process()?;
        let script = format!(
            "{OPENED}
             kill -STOP {process} || exit
             most=0
             while kill -0 {process} 2>&-; do
                 opened=$(opened)
                 there=$({ACCEPTED})
                 # Once it is killed they become fewer.
                 [ $there -lt $most ] || {{ most=$there; before=$opened; }}
             done
             echo $((most + $(opened) - before))"
        );
        self.count_in_namespaces(&self.lab.machine()?.first_process(self.name)?, &["--net", "--pid"], &script)
    }

    /// Kills the pod's Envoy, which carries traffic until then; on a machine only. The answer is how many connections that
    /// were redirected to it somebody can have accepted when it ended.
    pub(crate) fn kill_envoy_counting(&self) -> Result<u64> {
        let (agent, process) = (self.lab.machine()?.first_process(self.name)?, self.envoy_process()?);
        self.count_in_namespaces(&agent, &["--net", "--pid"], &kill_counting(&process, ACCEPTED))
    }

    /// Kills the pod's whole sidecar; on a machine only. The answer is how many connections that were redirected to it
    /// were established then: those that were there, and those that came while it ended.
    pub(crate) fn kill_sidecar_counting(&self) -> Result<u64> {
        let agent = self.lab.machine()?.first_process(self.name)?;
        self.count_in_namespaces(&agent, &["--net"], &kill_counting(&agent, ESTABLISHED))
    }

    /// Runs a command of this machine in the pod's network.
    pub(crate) fn in_network(&self, command: &[&str]) -> Result<String> {
        match self.lab.place() {
            Place::Machine => self.in_namespaces(&self.lab.machine()?.first_process(self.name)?, &["--net"], command),
            // This machine sees the processes of the cluster, but not through its node.
            Place::Cluster => {
                let agent = self.lab.driver().process(self.name, "osm-sidecar")?;
                run(Path::new("nsenter"), &[&["--target", &agent, "--net", "--"], command].concat())?.success()
            }
        }
    }

    /// Runs a command of this machine in some of the sidecar's namespaces; on a machine only. From outside, because in some
    /// shapes nobody inside may signal its processes, and nobody inside ends the first one.
    fn in_namespaces(&self, agent: &str, namespaces: &[&str], command: &[&str]) -> Result<String> {
        self.lab.node(&[&["nsenter", "--target", agent], namespaces, &["--"], command].concat())?.success()
    }

    fn count_in_namespaces(&self, agent: &str, namespaces: &[&str], script: &str) -> Result<u64> {
        number(&self.in_namespaces(agent, namespaces, &["sh", "-c", script])?)
    }

    /// What the pod's agent says when it is asked whether it is programmed, and whether it is.
    pub(crate) fn says_ready(&self) -> Result<(bool, String)> {
        let output = self.exec_in("envoy", &["osm-sidecar", "ready"])?;
        Ok((output.code == Some(0), output.all()))
    }

    /// A counter or gauge of the pod's agent.
    pub(crate) fn agent_stat(&self, name: &str) -> Result<u64> {
        let stats = self.get("http://127.0.0.1:15010/stats/prometheus")?;
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("there is no {name}"))?.parse().with_context(|| format!("reading {name}"))
    }

    pub(crate) fn envoy_process(&self) -> Result<String> {
        self.lab.driver().process(self.name, "envoy")
    }

    /// Starts a load of new connections.
    pub(crate) fn load(&self, url: &str, rate: u32, seconds: u32) -> Result<Background> {
        let (rate, seconds) = (rate.to_string(), seconds.to_string());
        self.demo_in_background(&["load", url, "--rate", &rate, "--seconds", &seconds])
    }
}

/// A script that kills a process and prints how many connections there were when it ended: those that `count` counts, and
/// those that came while it ended.
fn kill_counting(process: &str, count: &str) -> String {
    // A process may be a zombie while others of its threads still have its sockets; once it is gone, nobody has.
    format!(
        "{OPENED}
         before=$(opened)
         there=$({count})
         kill -KILL {process} || exit
         while kill -0 {process} 2>&-; do :; done
         echo $((there + $(opened) - before))"
    )
}

fn number(counted: &str) -> Result<u64> {
    counted.trim().parse().with_context(|| format!("reading the number of connections in {counted:?}"))
}

impl LoadCounts {
    /// An error unless more than so many were tried, and each was answered, or reset while it was in flight.
    pub(crate) fn answered_or_reset(&self, more_than: u64) -> Result<()> {
        let LoadCounts { tried, ok, refused, reset, timed_out, failed, other_status, .. } = *self;
        ensure!(tried > more_than, "only {tried} connections were tried");
        ensure!(refused == 0 && timed_out == 0 && failed == 0 && other_status == 0, "{self:?}");
        ensure!(ok + reset == tried, "{self:?}");
        Ok(())
    }

    /// Reads what a load printed.
    pub(crate) fn of(load: Background) -> Result<LoadCounts> {
        LoadCounts::in_output(&load.finish()?.success()?)
    }

    /// Reads the counts at the end of what a load printed.
    pub(crate) fn in_output(said: &str) -> Result<LoadCounts> {
        let last = said.lines().last().context("the load printed nothing")?;
        serde_json::from_str(last).with_context(|| format!("reading the counts in {said}"))
    }
}
