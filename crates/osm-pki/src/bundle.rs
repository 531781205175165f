//! The roots that a workload trusts.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::authority::read_authority;
use crate::{Authority, AuthorityError};

/// Roots in one bundle. Two are trusted during a rotation; more than a few mean that a wrong file was read.
pub const MAX_ROOTS: usize = 16;

/// One or more roots, each once, in the order given.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
}

/// Why a text is not a trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Nothing to trust.
    #[error("the trust bundle holds no certificate in PEM")]
    Empty,
    /// A wrong file.
    #[error("the trust bundle holds more than {MAX_ROOTS} certificates")]
    TooMany,
    /// Broken PEM.
    #[error("certificate {number} of the trust bundle is not PEM: {reason}")]
    Pem {
        /// Which one, from 1.
        number: usize,
        /// What the decoder says.
        reason: String,
    },
    /// Not a root.
    #[error("certificate {number} of the trust bundle cannot be trusted as an authority")]
    NotAnAuthority {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: AuthorityError,
    },
}

impl TrustBundle {
    /// The bundle that trusts `authorities`: the one that signs and, during a rotation, the others.
    ///
    /// # Errors
    /// When there is none, or more than [`MAX_ROOTS`].
    pub fn of(authorities: &[&Authority]) -> Result<TrustBundle, BundleError> {
        let pem: String = authorities.iter().map(|authority| authority.cert_pem()).collect::<Vec<_>>().join("\n");
        TrustBundle::from_pem(&pem)
    }

    /// Reads certificates in PEM, one after the other.
    ///
    /// # Errors
    /// When there is none, one is broken, or one is not an authority's.
    pub fn from_pem(pem: &str) -> Result<TrustBundle, BundleError> {
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        for (index, read) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            let number = index + 1;
            let root = read.map_err(|error| BundleError::Pem { number, reason: error.to_string() })?;
            if number > MAX_ROOTS {
                return Err(BundleError::TooMany);
            }
            read_authority(&root).map_err(|source| BundleError::NotAnAuthority { number, source })?;
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        if roots.is_empty() { Err(BundleError::Empty) } else { Ok(TrustBundle { roots }) }
    }

    /// The roots in PEM.
    pub fn pem(&self) -> String {
        let mut pem = String::new();
        for root in &self.roots {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            let text = STANDARD.encode(root);
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (line, after) = rest.split_at(rest.len().min(64));
                pem.push_str(line);
                pem.push('\n');
                rest = after;
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// The roots in DER, as a TLS library takes them.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle").field("roots", &self.roots.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn authority(trust_domain: &str) -> Authority {
        Authority::generate(Timestamp::from_second(1_800_000_000).unwrap(), trust_domain).unwrap()
    }

    #[test]
    fn a_bundle_survives_pem_and_holds_each_root_once() {
        let (old, new) = (authority("old.example"), authority("new.example"));
        let bundle = TrustBundle::of(&[&new, &old, &new]).unwrap();
        assert_eq!(bundle.roots().len(), 2);
        assert_eq!(TrustBundle::from_pem(&bundle.pem()).unwrap(), bundle);
        assert_eq!(TrustBundle::of(&[&new]).unwrap().pem(), new.cert_pem());
    }

    #[test]
    fn what_is_not_a_root_is_refused() {
        assert!(matches!(TrustBundle::from_pem(""), Err(BundleError::Empty)));
        assert!(matches!(TrustBundle::from_pem("-----BEGIN nonsense"), Err(BundleError::Pem { number: 1, .. })));
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(TrustBundle::from_pem(text), Err(BundleError::NotAnAuthority { number: 1, .. })));
        let many: String = (0..=MAX_ROOTS).map(|i| authority(&format!("d{i}")).cert_pem().to_owned()).collect();
        assert!(matches!(TrustBundle::from_pem(&many), Err(BundleError::TooMany)));
    }
}
