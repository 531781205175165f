//! The mesh's own authority: made at the first start, and kept.

mod secret;
mod state_dir;

pub(crate) use secret::from_secret;
pub(crate) use state_dir::load_or_make;
