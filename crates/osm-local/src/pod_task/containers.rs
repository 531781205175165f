//! The processes of a pod: started, watched, probed, ended.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use osm_api::k8s;
use osm_runtime::clock;
use tokio_util::sync::CancellationToken;

use super::{PodTask, ask_sidecar};
use crate::action::Action;
use crate::inside::Inside;
use crate::log_file;
use crate::pod::State;
use crate::probes::{Probes, Verdict};
use crate::process::{Surroundings, container_spec};
use crate::spawn::start_container;
use crate::status::{ContainerState, ContainerStatus, TimelineEvent};

/// As in Kubernetes, when the pod does not say.
const GRACE_DEFAULT_S: i64 = 30;
/// A hook may take as long as it likes, as far as its pod is concerned; this only keeps the number finite.
const HOOK_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// The container could not be started.
const CANNOT_START: i32 = 128;

/// What happened to a container, told by the tasks that watch it.
#[derive(Debug)]
pub(super) enum Happened {
    /// It ended.
    Ended { index: usize, run: u32, code: i32 },
    /// Its `postStart` hook ended, and how.
    PostStarted { index: usize, run: u32, is_success: bool },
    /// Its `preStop` hook ended: now it is told to end.
    PreStopped { index: usize, run: u32 },
    /// One of its probes said something new.
    Probed { index: usize, run: u32, verdict: Verdict },
    /// The sidecar told its timeline.
    SidecarSaid(Option<serde_json::Value>),
    /// The sidecar told its timeline for the last time: now it may be stopped.
    SidecarSaidLast { index: usize, run: u32, timeline: Option<serde_json::Value> },
}

/// A container and its process.
pub(super) struct Live {
    pub(super) field: String,
    pub(super) container: k8s::Container,
    /// Counts its processes, so that what is told late of an earlier one is not taken for the present one's.
    run: u32,
    pid: Option<u32>,
    inside: Option<Inside>,
    is_asked_to_end: bool,
    /// When it is ended, once it was asked to end.
    pub(super) kill_at: Option<Timestamp>,
    /// Ends what is run beside it: its probes and hooks.
    beside: CancellationToken,
}

impl Live {
    pub(super) fn new(field: String, container: k8s::Container) -> Live {
        let beside = CancellationToken::new();
        Live { field, container, run: 0, pid: None, inside: None, is_asked_to_end: false, kill_at: None, beside }
    }
}

impl PodTask {
    pub(super) async fn start_container(&mut self, index: usize) {
        self.live[index].run += 1;
        self.live[index].is_asked_to_end = false;
        self.live[index].kill_at = None;
        if let Err(error) = self.try_start(index).await {
            tracing::warn!(pod = %self.start.name, container = self.live[index].container.name,
                error = format!("{error:#}"), "a container cannot be started");
            self.ended(index, CANNOT_START);
        }
    }

    async fn try_start(&mut self, index: usize) -> anyhow::Result<()> {
        let namespaces = self.namespaces.clone().context("the pod has a network while containers start")?;
        let scratch = self.shared.state.private().join("scratch");
        let pod = self.start.admitted.pod.clone();
        let around = Surroundings {
            pod: &pod,
            ips: self.start.ips,
            images: &self.start.images,
            volumes: &self.volume_places,
            scratch: &scratch,
        };
        let live = &self.live[index];
        let spec = container_spec(&live.container, &live.field, &around).map_err(|p| anyhow::anyhow!("{p}"))?;
        let name = live.container.name.clone();
        let spec_file = self.folder().join(format!("{name}.{}.json", live.run));
        fs::write(&spec_file, serde_json::to_vec(&spec)?).context("writing the container's description")?;
        let mut started = start_container(namespaces, spec_file, spec.process.uid).await?;
        self.note(TimelineEvent::ContainerStarted, Some(index), None);
        let log = self.shared.state.container_log(&self.start.name, &name);
        let output = tokio::spawn(log_file::pump(started.output, log));
        let (run, sender) = (self.live[index].run, self.sender.clone());
        tokio::spawn(async move {
            let code = match started.child.wait().await {
                Ok(status) => exit_code(status),
                Err(_) => CANNOT_START,
            };
            // Its last words are in the log before anybody is told that it ended; a process that it left behind is
            // killed with its namespace, so that this never takes long.
            let _ = tokio::time::timeout(Duration::from_secs(1), output).await;
            let _ = sender.send(Happened::Ended { index, run, code }).await;
        });
        self.live[index].pid = Some(started.pid);
        let inside = Inside { pid: started.pid, process: spec.process, folder: self.folder() };
        self.live[index].inside = Some(inside.clone());
        self.accompany(index, run, inside);
        Ok(())
    }

    /// Runs what belongs to a container that has started: its hook, and when that has ended well its probes.
    fn accompany(&mut self, index: usize, run: u32, inside: Inside) {
        let (pod, ip, sender) = (self.start.admitted.pod.clone(), self.start.ips.v4, self.sender.clone());
        let live = &mut self.live[index];
        live.beside = CancellationToken::new();
        let probes = Probes::of(&live.container, &pod, ip);
        let hook = live.container.lifecycle.as_ref().and_then(|hooks| hooks.post_start.clone());
        let beside = async move {
            if let Some(hook) = hook {
                let is_success = match Action::of_hook(&hook, &pod, ip) {
                    Some(action) => action.passes(&inside, HOOK_LIMIT).await,
                    None => true,
                };
                let told = sender.send(Happened::PostStarted { index, run, is_success }).await;
                if told.is_err() || !is_success {
                    return;
                }
            }
            probes.run(inside, sender, move |verdict| Happened::Probed { index, run, verdict }).await;
        };
        tokio::spawn(live.beside.clone().run_until_cancelled_owned(beside));
    }

    pub(super) fn take(&mut self, event: Happened) {
        match event {
            Happened::Ended { index, run, code } if run == self.live[index].run => self.ended(index, code),
            Happened::Probed { index, run, verdict } if run == self.live[index].run => self.probed(index, verdict),
            Happened::PostStarted { index, run, is_success } if run == self.live[index].run => {
                if is_success {
                    self.lifecycle.on_post_start_done(index);
                } else {
                    self.note(TimelineEvent::ContainerFailedPostStart, Some(index), None);
                    self.ask_to_end(index);
                }
            }
            Happened::PreStopped { index, run } if run == self.live[index].run => self.tell_to_end(index),
            Happened::Ended { .. }
            | Happened::Probed { .. }
            | Happened::PostStarted { .. }
            | Happened::PreStopped { .. } => {}
            Happened::SidecarSaid(timeline) => self.sidecar = timeline.or_else(|| self.sidecar.take()),
            Happened::SidecarSaidLast { index, run, timeline } => {
                self.sidecar = timeline.or_else(|| self.sidecar.take());
                if run == self.live[index].run {
                    self.ask_to_end(index);
                }
            }
        }
    }

    fn ended(&mut self, index: usize, code: i32) {
        let live = &mut self.live[index];
        (live.pid, live.inside, live.kill_at) = (None, None, None);
        live.beside.cancel();
        // The description goes with the container: it holds its variables.
        let _ = fs::remove_file(
            self.folder().join(format!("{}.{}.json", self.live[index].container.name, self.live[index].run)),
        );
        self.note(TimelineEvent::ContainerExited, Some(index), Some(code));
        self.lifecycle.on_exit(index, code, clock::now());
    }

    fn probed(&mut self, index: usize, verdict: Verdict) {
        let event = match verdict {
            Verdict::Started => TimelineEvent::ContainerPassedStartup,
            Verdict::Ready(true) => TimelineEvent::ContainerReady,
            Verdict::Ready(false) => TimelineEvent::ContainerUnready,
            Verdict::LivenessFailed => TimelineEvent::ContainerFailedLiveness,
            Verdict::StartupFailed => return self.signal(index, Signal::SIGKILL),
        };
        self.note(event, Some(index), None);
        match verdict {
            Verdict::Started => self.lifecycle.on_startup_passed(index),
            Verdict::Ready(passes) => self.lifecycle.on_readiness(index, passes),
            // What becomes of it then is for the pod's restart policy to say.
            Verdict::LivenessFailed => self.ask_to_end(index),
            Verdict::StartupFailed => {}
        }
        if self.is_sidecar(index) && matches!(verdict, Verdict::Started | Verdict::Ready(true)) {
            let (ip, sender) = (self.start.ips.v4, self.sender.clone());
            tokio::spawn(async move { sender.send(Happened::SidecarSaid(ask_sidecar(ip).await)).await });
        }
    }

    /// Stops the container; the sidecar is asked for its timeline before, because nobody can ask it later.
    pub(super) fn stop_container(&mut self, index: usize) {
        if !self.is_sidecar(index) {
            return self.ask_to_end(index);
        }
        let (ip, sender, run) = (self.start.ips.v4, self.sender.clone(), self.live[index].run);
        tokio::spawn(async move {
            let timeline = ask_sidecar(ip).await;
            sender.send(Happened::SidecarSaidLast { index, run, timeline }).await
        });
    }

    /// Has the container end, in the time that the pod allows: first its `preStop` hook, then the signal.
    fn ask_to_end(&mut self, index: usize) {
        let asked = self.asked_grace();
        let allowed = clock::now() + SignedDuration::from_secs(asked.unwrap_or(GRACE_DEFAULT_S).max(1));
        // A pod that ends has one deadline for all of its containers.
        let kill_at = if self.is_terminating { *self.stop_by.get_or_insert(allowed) } else { allowed };
        let live = &mut self.live[index];
        let (Some(inside), false) = (live.inside.clone(), live.is_asked_to_end) else { return };
        live.is_asked_to_end = true;
        live.kill_at = Some(kill_at);
        let hook = live.container.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.as_ref());
        let action = hook.and_then(|hook| Action::of_hook(hook, &self.start.admitted.pod, self.start.ips.v4));
        let (Some(action), true) = (action, asked != Some(0)) else { return self.tell_to_end(index) };
        let (run, sender, beside) = (live.run, self.sender.clone(), live.beside.clone());
        let hooked = async move {
            // However it ends, the container ends too.
            action.passes(&inside, HOOK_LIMIT).await;
            let _ = sender.send(Happened::PreStopped { index, run }).await;
        };
        tokio::spawn(beside.run_until_cancelled_owned(hooked));
    }

    /// Who cannot hear the signal is ended at once, unless the pod insists on a time: the first process of a pid
    /// namespace gets no signal that it does not handle, so waiting for it would be waiting for nothing.
    fn tell_to_end(&mut self, index: usize) {
        let asked = self.asked_grace();
        let Some(pid) = self.live[index].pid else { return };
        let is_deaf = asked == Some(0) || (asked.is_none() && !handles_sigterm(pid));
        self.signal(index, if is_deaf { Signal::SIGKILL } else { Signal::SIGTERM });
    }

    fn asked_grace(&self) -> Option<i64> {
        self.start.admitted.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds)
    }

    /// Ends those whose time is over.
    pub(super) fn kill_overdue(&mut self, now: Timestamp) {
        for index in 0..self.live.len() {
            if self.live[index].kill_at.is_some_and(|at| at <= now) {
                self.live[index].kill_at = None;
                self.signal(index, Signal::SIGKILL);
            }
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = self.live[index].pid.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may have ended just now; its end is told elsewhere.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    pub(super) fn container_statuses(&self) -> Vec<ContainerStatus> {
        let slots = self.lifecycle.slots().iter().zip(&self.live);
        let statuses = slots.map(|(slot, live)| ContainerStatus {
            name: slot.name.clone(),
            role: slot.role,
            image: live.container.image.clone().unwrap_or_default(),
            state: match slot.state {
                State::Waiting => ContainerState::Waiting,
                State::Running { .. } => ContainerState::Running,
                State::BackOff { .. } => ContainerState::BackOff,
                State::Ended { .. } => ContainerState::Exited,
            },
            ready: slot.is_ready(),
            restarts: slot.restarts,
            pid: live.pid,
            exit_code: slot.last_exit,
        });
        statuses.collect()
    }
}

/// Whether a process has a handler for SIGTERM: proc_pid_status(5), `SigCgt`.
fn handles_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught & (1 << (Signal::SIGTERM as u64 - 1)) != 0
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(CANNOT_START)
}
