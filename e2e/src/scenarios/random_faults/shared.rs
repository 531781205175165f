//! Faults of the control plane and of the network, which all pods of a batch share.

use anyhow::Result;

use super::super::chance::Chance;
use super::super::outage::{IGNORANT_CONTROLLER, Outage, controller_is_ready, replace_controller, restore_controller};
use crate::lab::Lab;

/// A controller that believes no token, so that nobody gets a certificate.
const DISTRUSTFUL_CONTROLLER: &str = "umask 077
head -c 32 /dev/urandom > $FOLDER/another.key
exec $CONTROLLER $(printf '%s ' \"$@\" | sed \"s,[^ ]*/token[.]key,$FOLDER/another.key,\")";

/// One of twenty packets of TCP that leave a pod or come to one.
const LOSS: &[&str] = &["-p", "tcp", "-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP"];

/// A controller that restarts is killed so often, each time after so many looks at most.
const RESTARTS: u32 = 3;
const LOOKS_BETWEEN: u64 = 8;

/// What happens to all pods of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharedFault {
    Nothing,
    ControllerDown,
    /// It is there and does nothing (SIGSTOP).
    ControllerHangs,
    /// It works for a moment and stands still for the next.
    ControllerSlow,
    ControllerRestarts,
    /// Tokens are refused, so there is no certificate.
    CertificateLate,
    /// The controller does not know the cluster's objects, so there is no configuration.
    PolicyLate,
    PacketsLost,
}

impl SharedFault {
    pub(super) const ALL: [SharedFault; 8] = [
        SharedFault::Nothing,
        SharedFault::ControllerDown,
        SharedFault::ControllerHangs,
        SharedFault::ControllerSlow,
        SharedFault::ControllerRestarts,
        SharedFault::CertificateLate,
        SharedFault::PolicyLate,
        SharedFault::PacketsLost,
    ];

    /// What every pod says as long as it stands; none if it only comes and goes.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            SharedFault::ControllerDown => Some("controller-refused"),
            SharedFault::ControllerHangs => Some("controller-silent"),
            SharedFault::CertificateLate => Some("token-refused"),
            SharedFault::PolicyLate => Some("controller-out-of-sync"),
            SharedFault::Nothing
            | SharedFault::ControllerSlow
            | SharedFault::ControllerRestarts
            | SharedFault::PacketsLost => None,
        }
    }

    /// What a pod may say because of it, also while it begins and ends.
    pub(super) fn explains(self) -> &'static [&'static str] {
        const ANOTHER_CONTROLLER: &[&str] = &[
            "controller-refused",
            "controller-failed",
            "controller-silent",
            "controller-out-of-sync",
            "pod-unknown",
            "token-refused",
        ];
        match self {
            SharedFault::Nothing => &[],
            SharedFault::ControllerHangs | SharedFault::ControllerSlow | SharedFault::PacketsLost => {
                &["controller-silent", "pod-unknown"]
            }
            SharedFault::ControllerDown
            | SharedFault::ControllerRestarts
            | SharedFault::CertificateLate
            | SharedFault::PolicyLate => ANOTHER_CONTROLLER,
        }
    }

    /// Makes it.
    pub(super) fn begin<'a>(self, lab: &'a Lab, chance: &mut Chance) -> Result<InForce<'a>> {
        let mut force = InForce { lab, fault: self, outage: None, looks: 0, kills: Vec::new() };
        match self {
            SharedFault::Nothing | SharedFault::ControllerSlow => {}
            SharedFault::ControllerDown => force.outage = Some(Outage::begin(lab)?),
            SharedFault::ControllerHangs => lab.signal("osm-controller", "STOP")?,
            SharedFault::ControllerRestarts => {
                let pauses = (0..RESTARTS).map(|_| chance.below(LOOKS_BETWEEN) + 1);
                force.kills = pauses
                    .scan(0, |look, pause| {
                        *look += pause;
                        Some(*look)
                    })
                    .collect();
            }
            SharedFault::CertificateLate => replace_controller(lab, DISTRUSTFUL_CONTROLLER)?,
            SharedFault::PolicyLate => replace_controller(lab, IGNORANT_CONTROLLER)?,
            SharedFault::PacketsLost => lose_packets(lab, "-I")?,
        }
        Ok(force)
    }
}

/// A shared fault, from its beginning to its end.
pub(super) struct InForce<'a> {
    lab: &'a Lab,
    fault: SharedFault,
    outage: Option<Outage<'a>>,
    looks: u64,
    /// The looks after which the controller is killed.
    kills: Vec<u64>,
}

impl InForce<'_> {
    /// Goes on with a fault that comes and goes; called after each look at the pods.
    pub(super) fn go_on(&mut self) -> Result<()> {
        self.looks += 1;
        match self.fault {
            SharedFault::ControllerSlow => {
                let signal = if self.looks.is_multiple_of(2) { "CONT" } else { "STOP" };
                self.lab.signal("osm-controller", signal)
            }
            SharedFault::ControllerRestarts if self.kills.contains(&self.looks) => {
                // One that has not come back from the last time cannot be killed again.
                self.lab.signal("osm-controller", "KILL").ok();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes it back.
    pub(super) fn end(self) -> Result<()> {
        match (self.fault, self.outage) {
            (_, Some(outage)) => outage.end(),
            (SharedFault::ControllerHangs | SharedFault::ControllerSlow, _) => {
                self.lab.signal("osm-controller", "CONT")
            }
            (SharedFault::ControllerRestarts, _) => controller_is_ready(self.lab),
            (SharedFault::CertificateLate | SharedFault::PolicyLate, _) => restore_controller(self.lab),
            (SharedFault::PacketsLost, _) => lose_packets(self.lab, "-D"),
            (SharedFault::Nothing | SharedFault::ControllerDown, _) => Ok(()),
        }
    }
}

/// Begins or ends losing packets of everybody, on the way between two pods and between a pod and the controller.
fn lose_packets(lab: &Lab, what: &str) -> Result<()> {
    for chain in ["FORWARD", "INPUT"] {
        lab.node(&[&["iptables", "-w", what, chain], LOSS].concat())?.success()?;
    }
    Ok(())
}
