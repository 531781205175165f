//! Pod in, Pod out: whether a pod joins the mesh, in which shape, and what is added to it.
//!
//! The user's containers survive unchanged, but for probes over the network, which go to the agent. `osm-init` comes before every other container, so that nothing of the
//! pod has a network before redirection and hold are in place. Injecting twice is injecting once.

mod annotations;
mod checks;
mod containers;
mod decision;
mod inject;
mod life;
mod native;
mod policy;
mod probes;
mod shape;

pub use containers::{SIDECAR_VOLUME, STATE_DIR, STATUS_PORT, TOKEN_FILE, TOKEN_VOLUME};
pub use inject::{Injection, inject};
pub use native::{KubeletVersion, NativeSidecars, NotAVersion};
pub use policy::InjectPolicy;
pub use shape::Shape;
