//! The layers of the start-up promise, each of which can be switched off to see what it is for.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use super::scripted::Scripts;

/// The image that every sidecar has if nothing else is asked for.
const SIDECAR_IMAGE: &str = "openservicemesh/osm-sidecar";

/// A layer, switched off in the sidecars of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// The kernel rules that keep a handshake waiting, and with them the agent's parking.
    Hold,
    /// The agent takes no connection itself.
    Parking,
    /// A sidecar that starts anew waits for the controller.
    LastGood,
    /// An Envoy that hangs is left alone.
    Pulse,
    /// A sidecar that is told to end does so at once.
    DrainLast,
    /// A sidecar outlives the work of its Job.
    Quit,
}

impl Layer {
    /// The images file's lines for sidecars without it.
    pub(super) fn image_without(self, folder: &Path) -> Result<String> {
        let before_sidecar = match self {
            Layer::Hold => "[ \"$1\" = init ] && set -- \"$@\" --hold=false\nexport OSM_PARK_CONNECTIONS=0",
            Layer::Parking => "export OSM_PARK_CONNECTIONS=0",
            Layer::LastGood => "export OSM_LAST_GOOD_SECONDS=0",
            Layer::Pulse => "export OSM_HUNG_SECONDS=0",
            Layer::Quit => "export OSM_QUIT=refuse",
            Layer::DrainLast => {
                "unset OSM_STOPS_WITH_APPLICATION\nexport OSM_DRAIN_SECONDS=0 OSM_WITHDRAWAL_SECONDS=0 OSM_APPLICATION_QUIET_SECONDS=0"
            }
        };
        Scripts { before_sidecar, ..Scripts::default() }.image(folder, SIDECAR_IMAGE)
    }
}
