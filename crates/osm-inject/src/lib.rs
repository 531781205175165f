//! Pod in, Pod out: whether a pod joins the mesh, in which shape, and what is added to it.
//!
//! The user's containers survive unchanged, but for probes over the network, which go to the agent. What installs
//! redirection and hold comes before every other container, so that nothing of the pod has a network before they are in
//! place, unless its user asks for that by name. Injecting twice is injecting once.

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
mod wish;

pub use containers::{SIDECAR_VOLUME, STATE_DIR, STATUS_PORT, TOKEN_FILE, TOKEN_VOLUME};
pub use decision::{is_for_windows, joins};
pub use inject::{Injection, inject};
pub use native::{KubeletVersion, NativeSidecars, NotAVersion};
pub use policy::InjectPolicy;
pub use shape::Shape;
pub use wish::Hold;
