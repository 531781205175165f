//! A workload's key, and the request in which it asks for a certificate.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use zeroize::Zeroizing;

/// The longest request that is read; one with a P-256 key has about 400 bytes.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// A new private key and the request that goes with it. The key never leaves its process.
pub struct KeyAndCsr {
    /// The private key (PKCS #8, PEM).
    pub key_pem: Zeroizing<String>,
    /// The request (PKCS #10, PEM), which names nobody: names come from who asks.
    pub csr_pem: String,
}

/// The random source or the encoder failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a key and a certificate request")]
pub struct KeyError(#[from] rcgen::Error);

/// Why a certificate request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than any honest one.
    #[error("the certificate request is longer than {MAX_CSR_BYTES} bytes")]
    TooLong,
    /// Not PEM of a request.
    #[error("the certificate request is not PEM with the label CERTIFICATE REQUEST")]
    NotPem,
    /// Not PKCS #10.
    #[error("the certificate request is not PKCS #10")]
    NotACertificateRequest,
    /// Another kind of key.
    #[error("the certificate request's key is not P-256 (EC key on curve prime256v1), the only kind accepted")]
    KeyType,
    /// Whoever asks does not show that the key is theirs.
    #[error("the certificate request's signature does not match its key")]
    Signature,
}

impl KeyAndCsr {
    /// A new P-256 key and its request.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn generate() -> Result<KeyAndCsr, KeyError> {
        let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr_pem = params.serialize_request(&*key)?.pem()?;
        Ok(KeyAndCsr { key_pem: Zeroizing::new(key.serialize_pem()), csr_pem })
    }
}

/// The public key of a request, if the request shows that its sender has the private key.
pub(crate) fn verified_public_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, RequestError> {
    if csr_pem.len() > MAX_CSR_BYTES {
        return Err(RequestError::TooLong);
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).map_err(|_| RequestError::NotPem)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| RequestError::NotACertificateRequest)?;
    if !rest.is_empty() {
        return Err(RequestError::NotACertificateRequest);
    }
    let public_key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| RequestError::KeyType)?;
    if *rcgen::PublicKeyData::algorithm(&public_key) != PKCS_ECDSA_P256_SHA256 {
        return Err(RequestError::KeyType);
    }
    request.verify_signature().map_err(|_| RequestError::Signature)?;
    Ok(public_key)
}

impl fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAndCsr").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}
