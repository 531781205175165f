//! The life of one pod as a state machine: which container starts when, what restarts, when the pod is over.
//!
//! The rules are the kubelet's: init containers one after the other; a native sidecar (an init container that restarts
//! always) starts in its turn, lets the next one start when its startup probe has passed, and is stopped after the
//! last app container has ended; the others restart as the pod's policy says, at once the first time, later with
//! growing delays.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use osm_api::k8s;
use serde::{Deserialize, Serialize};

use crate::action;

/// The delay before the second restart in a row; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(10);
/// No restart waits longer.
const DELAY_LIMIT: Duration = Duration::from_secs(300);
/// A container that ran this long starts anew with no delay.
const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// The state of one pod's containers. Feed it what happens; [`Lifecycle::next`] says what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    policy: RestartPolicy,
    slots: Vec<Slot>,
    is_initialized: bool,
    is_stopping: bool,
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where it is in its life.
    pub state: State,
    /// How often it was started again.
    pub restarts: u32,
    /// Its exit code when it last ended.
    pub last_exit: Option<i32>,
    /// Whether its startup probe has passed since it was started; true at once without one.
    pub has_started: bool,
    /// Whether its readiness probe passes; true at once without one.
    pub passes_readiness: bool,
    has_startup_probe: bool,
    has_readiness_probe: bool,
    has_post_start: bool,
    is_in_post_start: bool,
    ends_in_a_row: u32,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// A native sidecar: an init container that restarts always.
    Sidecar,
    /// One of the pod's `containers`.
    App,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    Waiting,
    /// Told to start, or running.
    Running {
        /// When it was told to start.
        since: Timestamp,
        /// Whether it has been told to stop.
        is_stopping: bool,
    },
    /// Ended, and starts again.
    BackOff {
        /// Not before this.
        until: Timestamp,
    },
    /// Ended for good.
    Ended {
        /// With this exit code; 128 and the signal's number if a signal ended it.
        code: i32,
    },
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// If the exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

/// `status.phase`, as in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Some app container has not started yet.
    Pending,
    /// All app containers have started.
    Running,
    /// All app containers ended with 0.
    Succeeded,
    /// Some container ended with another code, and nothing restarts.
    Failed,
}

/// What to do with the container of this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start it.
    Start(usize),
    /// Ask it to end, and end it when it takes longer than the pod allows.
    Stop(usize),
}

impl Lifecycle {
    /// A pod of which nothing has started.
    pub fn new(spec: &k8s::PodSpec) -> Lifecycle {
        let policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some(_) | None => RestartPolicy::Always,
        };
        let slots = containers(spec).map(|(role, container)| Slot::new(role, container)).collect();
        Lifecycle { policy, slots, is_initialized: false, is_stopping: false }
    }

    /// The containers, in the order in which they start.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// What to do at `now`. Each step is given once.
    pub fn next(&mut self, now: Timestamp) -> Vec<Step> {
        if self.is_stopping || self.is_finishing() {
            return self.stop_steps();
        }
        if !self.is_initialized && !self.initialize(now).is_empty() {
            return self.take_starts(now);
        }
        if !self.is_initialized && !self.init_is_done() {
            return Vec::new();
        }
        self.is_initialized = true;
        self.take_starts(now)
    }

    /// When [`Lifecycle::next`] has something to do even if nothing happens until then.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let delays = self.slots.iter().filter_map(|slot| match slot.state {
            State::BackOff { until } => Some(until),
            State::Waiting | State::Running { .. } | State::Ended { .. } => None,
        });
        if self.is_stopping { None } else { delays.min() }
    }

    /// The pod is to end.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// The container ended.
    pub fn on_exit(&mut self, index: usize, code: i32, now: Timestamp) {
        let is_wound_up = self.is_stopping || self.is_finishing();
        let policy = self.policy;
        let slot = &mut self.slots[index];
        let restarts = match slot.role {
            Role::Sidecar => !is_wound_up,
            Role::Init => !self.is_stopping && code != 0 && policy != RestartPolicy::Never,
            Role::App => {
                let is_wanted = match policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => code != 0,
                    RestartPolicy::Never => false,
                };
                !self.is_stopping && is_wanted
            }
        };
        let ran_for = match slot.state {
            State::Running { since, .. } => now.duration_since(since),
            State::Waiting | State::BackOff { .. } | State::Ended { .. } => SignedDuration::ZERO,
        };
        slot.last_exit = Some(code);
        slot.has_started = false;
        slot.passes_readiness = false;
        slot.is_in_post_start = false;
        slot.ends_in_a_row = if ran_for >= RESET_AFTER { 1 } else { slot.ends_in_a_row + 1 };
        slot.state =
            if restarts { State::BackOff { until: now + delay(slot.ends_in_a_row) } } else { State::Ended { code } };
    }

    /// The container's `postStart` hook has ended well.
    pub fn on_post_start_done(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.is_in_post_start = false;
        slot.has_started = slot.is_running() && !slot.has_startup_probe;
    }

    /// The container's startup probe has passed.
    pub fn on_startup_passed(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.has_started = slot.is_running();
    }

    /// What the container's readiness probe says has changed.
    pub fn on_readiness(&mut self, index: usize, passes: bool) {
        let slot = &mut self.slots[index];
        slot.passes_readiness = passes && slot.is_running();
    }

    /// The phase, as in Kubernetes.
    pub fn phase(&self) -> Phase {
        if !self.is_over() {
            let apps_started = self.slots.iter().filter(|s| s.role == Role::App).all(|s| s.state != State::Waiting);
            return if apps_started { Phase::Running } else { Phase::Pending };
        }
        let succeeded = |slot: &Slot| match slot.role {
            Role::App | Role::Init => slot.state == State::Ended { code: 0 },
            Role::Sidecar => true,
        };
        if self.slots.iter().all(succeeded) { Phase::Succeeded } else { Phase::Failed }
    }

    /// Whether nothing runs and nothing will.
    pub fn is_over(&self) -> bool {
        (self.is_stopping || self.is_finishing()) && self.slots.iter().all(|slot| !slot.is_running())
    }

    /// Whether all that should run does, and passes its readiness probe.
    pub fn is_ready(&self) -> bool {
        let is_fine = |slot: &Slot| slot.role == Role::Init || slot.is_ready();
        self.is_initialized && !self.is_stopping && !self.is_finishing() && self.slots.iter().all(is_fine)
    }

    /// What the pod waits for, for people; empty when it waits for nothing.
    pub fn waits_for(&self) -> String {
        if self.is_stopping || self.is_over() {
            return String::new();
        }
        let unready = self.slots.iter().find(|slot| match slot.role {
            Role::Init => slot.state != State::Ended { code: 0 },
            Role::Sidecar | Role::App => !slot.is_ready(),
        });
        let Some(slot) = unready else {
            return String::new();
        };
        let kind = match slot.role {
            Role::Init => "init container",
            Role::Sidecar => "sidecar",
            Role::App => "container",
        };
        let what = match slot.state {
            State::Waiting => "to start".to_owned(),
            State::Running { .. } if slot.role == Role::Init => "to end".to_owned(),
            State::Running { .. } if slot.is_in_post_start => "to end its postStart hook".to_owned(),
            State::Running { .. } if !slot.has_started => "to pass its startup probe".to_owned(),
            State::Running { .. } => "to pass its readiness probe".to_owned(),
            State::BackOff { .. } => {
                format!("to start again; it ended with exit code {}", slot.last_exit.unwrap_or_default())
            }
            State::Ended { code } => format!("; it ended with exit code {code}"),
        };
        format!("{kind} {} {what}", slot.name)
    }

    /// The last app container has ended for good, or an init container has failed for good.
    fn is_finishing(&self) -> bool {
        let mut apps = self.slots.iter().filter(|s| s.role == Role::App);
        let init_failed =
            self.slots.iter().any(|s| s.role == Role::Init && matches!(s.state, State::Ended { code } if code != 0));
        init_failed || apps.all(|s| matches!(s.state, State::Ended { .. }))
    }

    /// The one container that is next before the app may start, if it is its time.
    fn initialize(&self, now: Timestamp) -> Vec<usize> {
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, s)| s.role != Role::App) {
            if slot.is_due(now) {
                return vec![index];
            }
            let is_passed = match slot.role {
                Role::Init => slot.state == State::Ended { code: 0 },
                Role::Sidecar | Role::App => slot.has_started,
            };
            if !is_passed {
                return Vec::new();
            }
        }
        Vec::new()
    }

    fn init_is_done(&self) -> bool {
        self.slots.iter().all(|slot| match slot.role {
            Role::Init => slot.state == State::Ended { code: 0 },
            Role::Sidecar => slot.has_started,
            Role::App => true,
        })
    }

    fn take_starts(&mut self, now: Timestamp) -> Vec<Step> {
        let mut due = self.initialize(now);
        if self.is_initialized {
            // As with the kubelet, the next container of a pod first starts when the hook of the one before it is over.
            let mut is_held = false;
            due.clear();
            for (index, slot) in self.slots.iter().enumerate().filter(|(_, s)| s.role != Role::Init) {
                if slot.is_due(now) && !(is_held && slot.state == State::Waiting) {
                    due.push(index);
                    is_held |= slot.has_post_start;
                }
                is_held |= slot.is_in_post_start;
            }
        }
        for index in &due {
            self.slots[*index].start(now);
        }
        due.into_iter().map(Step::Start).collect()
    }

    /// All that is no sidecar at once; then the sidecars, each when those that started after it have ended.
    fn stop_steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut others_run = false;
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, s)| s.role != Role::Sidecar) {
            others_run |= slot.is_running();
            steps.extend(slot.ask_to_stop().then_some(Step::Stop(index)));
        }
        let sidecars = self.slots.iter_mut().enumerate().rev().filter(|(_, s)| s.role == Role::Sidecar);
        if let Some((index, slot)) = sidecars.into_iter().find(|(_, s)| s.is_running())
            && !others_run
        {
            steps.extend(slot.ask_to_stop().then_some(Step::Stop(index)));
        }
        for slot in self.slots.iter_mut().filter(|s| matches!(s.state, State::BackOff { .. })) {
            slot.state = State::Ended { code: slot.last_exit.unwrap_or_default() };
        }
        steps
    }
}

impl Slot {
    fn new(role: Role, container: &k8s::Container) -> Slot {
        let is_carried_out = |probe: &Option<k8s::Probe>| probe.as_ref().is_some_and(action::is_carried_out);
        let hooks = container.lifecycle.as_ref();
        Slot {
            name: container.name.clone(),
            role,
            state: State::Waiting,
            restarts: 0,
            last_exit: None,
            has_started: false,
            passes_readiness: false,
            has_startup_probe: is_carried_out(&container.startup_probe),
            has_readiness_probe: is_carried_out(&container.readiness_probe),
            has_post_start: hooks.is_some_and(|hooks| hooks.post_start.is_some()),
            is_in_post_start: false,
            ends_in_a_row: 0,
        }
    }

    /// Whether it runs and passes its probes.
    pub fn is_ready(&self) -> bool {
        self.is_running() && self.has_started && self.passes_readiness
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Waiting => true,
            State::BackOff { until } => until <= now,
            State::Running { .. } | State::Ended { .. } => false,
        }
    }

    fn start(&mut self, now: Timestamp) {
        self.restarts += u32::from(self.state != State::Waiting);
        self.state = State::Running { since: now, is_stopping: false };
        self.is_in_post_start = self.has_post_start;
        self.has_started = !self.has_startup_probe && !self.has_post_start;
        self.passes_readiness = !self.has_readiness_probe;
    }

    /// Whether it runs and had not been asked before.
    fn ask_to_stop(&mut self) -> bool {
        match &mut self.state {
            State::Running { is_stopping, .. } => !std::mem::replace(is_stopping, true),
            State::Waiting | State::BackOff { .. } | State::Ended { .. } => false,
        }
    }
}

/// The containers of a pod in the order in which they start, each with its role.
pub(crate) fn containers(spec: &k8s::PodSpec) -> impl Iterator<Item = (Role, &k8s::Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        (if is_sidecar { Role::Sidecar } else { Role::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (Role::App, container)))
}

/// The delay before a container starts again that has ended so often in a row: none the first time.
fn delay(ends_in_a_row: u32) -> Duration {
    match ends_in_a_row.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => {
            FIRST_DELAY.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(DELAY_LIMIT)
        }
    }
}

#[cfg(test)]
mod tests;
