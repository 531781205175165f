//! World in, Mesh and Problems out: Kubernetes types end here.
//!
//! [`resolve`] is total: an object that cannot be understood becomes a [`Problem`] and the rest goes on; what is
//! not understood admits nobody.

mod explain;
mod resolve;

mod endpoints;
mod mesh_config;
mod namespaces;
mod pods;
mod policies;
mod protocol;
mod proxies;
mod report;
mod selection;
mod services;
mod settings;
mod tls;

pub use explain::{Answer, Caller, Destination, Explanation, Place, Question, Request, Verdict, explain};
pub use osm_api::Problem;
pub use policies::describe;
pub use resolve::{ResolveOptions, resolve};
