//! One start of a pod.

use anyhow::{Context, Result, ensure};

use super::super::chance::Chance;
use super::super::manifests::container_pod;
use super::super::shapes::SHAPES;
use super::own::OwnFault;
use super::shared::SharedFault;
use crate::lab::{Lab, LoadCounts, Startup};

/// The pod's own fault comes so long after it could, at most.
const DELAY_MS: u64 = 1_500;

/// What a pod may wait for on its way, whatever is wrong.
const ON_THE_WAY: &[&str] = &[
    "sidecar-pending",
    "sidecar-silent",
    "certificate-pending",
    "configuration-pending",
    "envoy-pending",
    "envoy-silent",
    "envoy-unacknowledged",
    "envoy-warming",
    "application-unready",
    "peers-pending",
];

pub(super) struct Start {
    /// `namespace/name`.
    pub(super) pod: String,
    shape: &'static str,
    pub(super) own: OwnFault,
    delay_ms: i64,
    /// Its own fault, once it is made: at which age, and how many connections it may have reset.
    made: Option<(i64, u64)>,
    /// Whether its gate is open, after its own fault.
    pub(super) has_settled: bool,
    /// Reasons that neither its own fault nor the shared one explains.
    pub(super) wrong_reasons: Vec<String>,
    /// From its agent's beginning to the reason of a fault that stands.
    pub(super) said_after_ms: Option<i64>,
    last_look: Option<Startup>,
}

impl Start {
    pub(super) fn by_chance(number: u32, chance: &mut Chance) -> Start {
        Start {
            pod: format!("shop/start-{number}"),
            shape: chance.one_of(&SHAPES),
            own: chance.one_of(&OwnFault::ALL),
            delay_ms: chance.below(DELAY_MS) as i64,
            made: None,
            has_settled: false,
            wrong_reasons: Vec::new(),
            said_after_ms: None,
            last_look: None,
        }
    }

    pub(super) fn manifest(&self) -> String {
        let asks = "  containers:
    - {name: main, image: osm-demo, args: [load, 'http://server.shop/', --rate, '50', --seconds, '86400']}
";
        let (_, name) = self.pod.split_once('/').unwrap_or_default();
        container_pod(name, &format!("openservicemesh.io/startup: {}", self.shape), asks)
    }

    /// Takes in what the pod says of itself, and makes its own fault when that is due.
    pub(super) fn go_on(&mut self, lab: &Lab, shared: SharedFault, look: &Startup) -> Result<()> {
        self.hear(shared, look);
        self.last_look = Some(look.clone());
        if self.made.is_none()
            && self.own != OwnFault::Nothing
            && let Some(possible) = look.first(self.own.possible_from())
            && look.age_ms >= possible + self.delay_ms
        {
            self.made = Some((look.age_ms, self.own.make(&lab.pod(&self.pod))?));
            return Ok(());
        }
        self.has_settled = look.is_programmed == Some(true) && look.missing.is_empty() && self.is_past_its_own(look);
        Ok(())
    }

    fn hear(&mut self, shared: SharedFault, look: &Startup) {
        let Some(item) = look.missing.first() else { return };
        let reason = item.reason.as_str();
        if !ON_THE_WAY.contains(&reason) && !shared.explains().contains(&reason) && !self.own.explains(reason) {
            self.wrong_reasons.push(format!("{reason}: {}", item.what));
        }
        if Some(reason) == shared.reason()
            && self.said_after_ms.is_none()
            && let Some(agent) = look.first("agent-started")
        {
            self.said_after_ms = Some(look.age_ms - agent);
        }
    }

    /// Whether what its own fault has ended has been begun again.
    fn is_past_its_own(&self, look: &Startup) -> bool {
        match (self.own, self.made) {
            (OwnFault::Nothing, _) => true,
            (_, None) => false,
            (OwnFault::EnvoyKilled | OwnFault::EnvoyStopped, Some(_)) => look.first("envoy-ended").is_some(),
            (OwnFault::SidecarKilled, Some((at, _))) => look.first("agent-started").is_some_and(|agent| agent > at),
        }
    }

    pub(super) fn may_be_reset(&self) -> u64 {
        self.made.map_or(0, |(_, established)| established)
    }

    /// What its application counted, if that is within the promise. It prints that when it is told to end, and its log
    /// outlives it.
    pub(super) fn counts(&self, lab: &Lab, shared: SharedFault) -> Result<LoadCounts> {
        let said = lab.log_to_its_end(&self.pod, "main")?.finish()?;
        let counts = LoadCounts::in_output(&said).with_context(|| format!("of {}", self.pod))?;
        self.check(&counts, shared).with_context(|| format!("{}\n{said}", self.describe()))?;
        Ok(counts)
    }

    fn check(&self, counts: &LoadCounts, shared: SharedFault) -> Result<()> {
        let LoadCounts { tried, ok, refused, reset, timed_out, failed, other_status, .. } = *counts;
        ensure!(tried > super::CARRIED, "only {tried} connections were tried");
        ensure!(refused == 0 && timed_out == 0 && failed == 0, "{counts:?}");
        ensure!(ok + reset + other_status == tried, "{counts:?}");
        let may_be_reset = self.may_be_reset();
        ensure!(reset <= may_be_reset, "{reset} were reset, {may_be_reset} may have been: {counts:?}");
        // A server that cannot be reached is no fault of the sidecar, which says so instead of refusing.
        ensure!(other_status == 0 || shared == SharedFault::PacketsLost, "{counts:?}");
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let look = self.last_look.as_ref().map(|look| (look.is_programmed, look.reason(), look.age_ms));
        format!(
            "{} (shape {}, {:?} {} ms after it could be, made: {:?}): {look:?}",
            self.pod, self.shape, self.own, self.delay_ms, self.made
        )
    }
}
