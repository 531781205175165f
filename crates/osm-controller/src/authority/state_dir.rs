//! The authority of the local runner, in the state directory.

use anyhow::{Context, bail};
use jiff::Timestamp;
use osm_pki::Authority;

use crate::state_dir::StateDir;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// The authority that is kept in `state`, or a new one if there is none.
pub(crate) fn load_or_make(state: &StateDir, trust_domain: &str, now: Timestamp) -> anyhow::Result<Authority> {
    let (certificate, key) = (state.read(CERTIFICATE)?, state.read_secret(KEY)?);
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let key = zeroize::Zeroizing::new(key);
            let text = |bytes| std::str::from_utf8(bytes).context("not text");
            let authority = Authority::from_pem(text(&certificate)?, text(&key)?);
            authority.with_context(|| format!("loading the authority from {}", state.file(CERTIFICATE).display()))
        }
        (Some(_), None) => bail!(
            "{} is there, but its key {} is not; restore the key, or delete the certificate to make a new authority, \
             which every workload must then learn to trust",
            state.file(CERTIFICATE).display(),
            state.file(KEY).display()
        ),
        // A key alone is what is left of a first start that did not end: nothing was ever signed with it.
        (None, _) => {
            let authority = Authority::generate(now, trust_domain).context("making an authority")?;
            state.write(KEY, authority.key_pem().as_bytes())?;
            state.write(CERTIFICATE, authority.cert_pem().as_bytes())?;
            tracing::info!(trust_domain, "made a new authority");
            Ok(authority)
        }
    }
}
