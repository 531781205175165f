//! Why a program of the sidecar ends, in words that programs can read: on standard error, and where the kubelet looks.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;

use osm_startup::{LastWords, Reason};

/// Where a container of Kubernetes leaves its last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A context of an error that says which reason it is.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    reason: Reason,
    what: String,
}

impl Fault {
    /// This reason, and what could not be done.
    pub fn new(reason: Reason, what: impl Into<String>) -> Fault {
        Fault { reason, what: what.into() }
    }

    /// Listening on an address for something failed.
    pub fn listening(error: &std::io::Error, address: SocketAddr, purpose: &str) -> Fault {
        let is_taken = error.kind() == ErrorKind::AddrInUse;
        let reason = if is_taken { Reason::PortInUse } else { Reason::SidecarEnded };
        Fault::new(reason, format!("listening on {address} for {purpose}"))
    }
}

/// The last words about an error: the reason that is in it, or else this one.
pub fn last_words(error: &anyhow::Error, otherwise: Reason) -> LastWords {
    let reason = error.downcast_ref::<Fault>().map_or(otherwise, |fault| fault.reason);
    LastWords::new(reason, &format!("{error:#}"))
}

/// Leaves them where the kubelet finds them; outside of Kubernetes there is no such place, and the log does.
pub fn leave(words: &LastWords) {
    let log = std::fs::OpenOptions::new().append(true).open(Path::new(TERMINATION_LOG));
    if let Ok(mut log) = log {
        // Nobody is left to be told that it failed.
        let _ = writeln!(log, "{words}");
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_reason_of_a_fault_is_found_through_what_was_added_around_it() {
        let taken = std::io::Error::from(ErrorKind::AddrInUse);
        let address = "0.0.0.0:15904".parse().unwrap();
        let fault = Fault::listening(&taken, address, "status");
        let error = Err::<(), _>(taken).context(fault).context("starting the agent").unwrap_err();
        let words = last_words(&error, Reason::SidecarEnded).to_string();
        assert_eq!(
            words,
            "error[port-in-use]: starting the agent: listening on 0.0.0.0:15904 for status: address in use"
        );
        let other = anyhow::anyhow!("something\nelse");
        assert_eq!(last_words(&other, Reason::InitFailed).to_string(), "error[init-failed]: something else");
    }
}
