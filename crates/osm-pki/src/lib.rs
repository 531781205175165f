//! Certificates and tokens: who signs, what is signed, and when to sign again.
//!
//! No function here reads a clock, a file or a socket. Times are arguments; only keys and serial
//! numbers come from the system's random source.

mod authority;
mod bundle;
mod identity;
mod leaf;
mod renewal;
mod request;
mod token;

pub use authority::{Authority, AuthorityError, ROOT_LIFETIME};
pub use bundle::{BundleError, MAX_ROOTS, TrustBundle};
pub use identity::{IdentityError, WorkloadIdentity};
pub use leaf::{CsrRequest, DEFAULT_LEAF_LIFETIME, IssueError, Leaf, ServerLeaf, issue, issue_server};
pub use renewal::{CLOCK_SKEW_ALLOWANCE, Validity, ValidityError, renew_at};
pub use request::{KeyAndCsr, KeyError, MAX_CSR_BYTES, RequestError};
pub use token::{
    Claims, MAX_TOKEN_BYTES, TOKEN_KEY_BYTES, TokenDigest, TokenError, TokenKey, TokenKeyError, digest_token, mint,
    verify,
};
