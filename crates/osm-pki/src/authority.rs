//! The authority that signs: a root with its key.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::identity::is_dns_name;
use crate::leaf::{MAX_COMMON_NAME_CHARS, random_serial_number};
use crate::renewal::{Validity, x509_time};
use crate::{IdentityError, ValidityError};

/// How long a root lasts that was made here: ten years, as in OSM.
pub const ROOT_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// A certificate authority: its certificate and its private key.
pub struct Authority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    validity: Validity,
    key: Zeroizing<KeyPair>,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The trust domain is no DNS name.
    #[error("cannot make an authority")]
    TrustDomain(#[source] IdentityError),
    /// The period cannot be written.
    #[error("cannot make an authority")]
    Validity(#[source] ValidityError),
    /// The random source or the encoder failed.
    #[error("cannot make an authority")]
    Generate(#[source] rcgen::Error),
    /// Not one PEM certificate.
    #[error("the authority's certificate is not one certificate in PEM: {0}")]
    Certificate(String),
    /// Its certificate must not sign others.
    #[error("the certificate is not an authority's: it lacks the CA flag or the right to sign certificates")]
    NotAnAuthority,
    /// Not a private key that we can sign with.
    #[error("the authority's key is not a P-256 private key in PEM (PKCS #8)")]
    Key,
    /// Key and certificate belong to different authorities.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
}

impl Authority {
    /// A new root for `trust_domain`, valid for [`ROOT_LIFETIME`].
    ///
    /// # Errors
    /// When `trust_domain` is no DNS name, or `now` lies outside of what certificates can say.
    pub fn generate(now: Timestamp, trust_domain: &str) -> Result<Authority, AuthorityError> {
        if !is_dns_name(trust_domain) {
            return Err(AuthorityError::TrustDomain(IdentityError::TrustDomain(trust_domain.to_owned())));
        }
        let validity = Validity::starting(now, ROOT_LIFETIME).map_err(AuthorityError::Validity)?;
        let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Generate)?);
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Open Service Mesh");
        let common_name = format!("osm-ca.{trust_domain}");
        if common_name.len() <= MAX_COMMON_NAME_CHARS {
            name.push(DnType::CommonName, common_name);
        }
        let mut params = CertificateParams::default();
        params.not_before = x509_time(validity.not_before);
        params.not_after = x509_time(validity.not_after);
        params.serial_number = Some(random_serial_number());
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&*key).map_err(AuthorityError::Generate)?;
        Ok(Authority {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone().into_owned(),
            validity,
            key,
        })
    }

    /// An authority that was kept as PEM.
    ///
    /// # Errors
    /// When the certificate is not one that may sign, the key is not P-256, or they do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Authority, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| AuthorityError::Certificate(error.to_string()))?;
        let (validity, public_key_der) = read_authority(&certificate)?;
        let key = Zeroizing::new(KeyPair::from_pem(key_pem).map_err(|_| AuthorityError::Key)?);
        if !key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(AuthorityError::Key);
        }
        if key.subject_public_key_info() != public_key_der {
            return Err(AuthorityError::KeyMismatch);
        }
        Ok(Authority { certificate_pem: cert_pem.to_owned(), certificate, validity, key })
    }

    /// The certificate.
    pub fn cert_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, to be kept where only its owner can read it.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// From when to when the authority can sign.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The signer of a leaf.
    pub(crate) fn issuer(&self) -> Result<Issuer<'_, impl SigningKey>, rcgen::Error> {
        Issuer::from_ca_cert_der(&self.certificate, &*self.key)
    }
}

/// Period and public key (`SubjectPublicKeyInfo`) of a certificate that may sign others.
pub(crate) fn read_authority(certificate: &CertificateDer<'_>) -> Result<(Validity, Vec<u8>), AuthorityError> {
    let (rest, x509) =
        X509Certificate::from_der(certificate).map_err(|error| AuthorityError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(AuthorityError::Certificate("bytes after its end".to_owned()));
    }
    let may_sign = x509.is_ca()
        && match x509.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        };
    if !may_sign {
        return Err(AuthorityError::NotAnAuthority);
    }
    let validity =
        Validity::of(&x509).ok_or_else(|| AuthorityError::Certificate("its dates cannot be read".to_owned()))?;
    Ok((validity, x509.public_key().raw.to_vec()))
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}
