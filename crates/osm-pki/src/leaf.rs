//! Certificates that an authority signs: for workloads, and for the controller's own server.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::identity::is_dns_name;
use crate::renewal::{Validity, x509_time};
use crate::request::verified_public_key;
use crate::{Authority, RequestError, ValidityError, WorkloadIdentity};

/// How long a workload's certificate lasts unless the mesh's settings say otherwise.
pub const DEFAULT_LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// The longest common name that X.520 allows. Longer names stand in the alternative names only.
pub(crate) const MAX_COMMON_NAME_CHARS: usize = 64;

/// What a workload asks for, and who it was found to be.
#[derive(Clone, Debug)]
pub struct CsrRequest<'a> {
    /// The request as it came (PEM); only its key counts, its names are not read.
    pub csr_pem: &'a str,
    /// Who asks, as its token says.
    pub identity: &'a WorkloadIdentity,
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate and what lies between it and the root (PEM, the certificate first, without the root).
    pub chain_pem: String,
    /// From when to when it holds; [`crate::renew_at`] says when to replace it.
    pub validity: Validity,
}

/// A server's certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerLeaf {
    /// The certificate.
    pub leaf: Leaf,
    /// Its private key (PKCS #8, PEM).
    pub key_pem: Zeroizing<String>,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is at fault.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The period is at fault.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// A server needs a name.
    #[error("a server's certificate needs at least one DNS name")]
    NoName,
    /// Not a DNS name.
    #[error("{0:?} is not a DNS name of lower-case letters, digits, '-' and '.'")]
    Name(String),
    /// The encoder or the random source failed.
    #[error("cannot sign the certificate")]
    Sign(#[from] rcgen::Error),
}

/// Signs a workload's certificate: for both ends of a connection, with the names of `request.identity` and
/// no other, for `validity` but never longer than the authority itself lasts.
///
/// # Errors
/// When the request is not a P-256 request signed with its own key, or the authority is not valid at `now`.
pub fn issue(
    authority: &Authority,
    request: &CsrRequest<'_>,
    validity: SignedDuration,
    now: Timestamp,
) -> Result<Leaf, IssueError> {
    let public_key = verified_public_key(request.csr_pem)?;
    let dns_name = request.identity.dns_name();
    let names =
        vec![SanType::DnsName(dns_name.as_str().try_into()?), SanType::URI(request.identity.spiffe_uri().try_into()?)];
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    sign(authority, &public_key, Subject { common_name: dns_name, names, usages }, validity, now)
}

/// Signs a certificate with a new key for the server that answers to `dns_names`; the first is its common name.
///
/// No workload can get such a certificate as long as the names are those of a Service
/// (see [`WorkloadIdentity::new`]).
///
/// # Errors
/// When there is no name, one is no DNS name, or the authority is not valid at `now`.
pub fn issue_server(
    authority: &Authority,
    dns_names: &[String],
    validity: SignedDuration,
    now: Timestamp,
) -> Result<ServerLeaf, IssueError> {
    let common_name = dns_names.first().ok_or(IssueError::NoName)?.clone();
    let mut names = Vec::with_capacity(dns_names.len());
    for name in dns_names {
        if !is_dns_name(name) {
            return Err(IssueError::Name(name.clone()));
        }
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = sign(authority, &*key, Subject { common_name, names, usages }, validity, now)?;
    Ok(ServerLeaf { leaf, key_pem: Zeroizing::new(key.serialize_pem()) })
}

struct Subject {
    common_name: String,
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

fn sign(
    authority: &Authority,
    public_key: &impl PublicKeyData,
    subject: Subject,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Leaf, IssueError> {
    let validity = Validity::within(authority.validity(), now, lifetime)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Open Service Mesh");
    if subject.common_name.len() <= MAX_COMMON_NAME_CHARS {
        name.push(DnType::CommonName, subject.common_name);
    }
    let mut params = CertificateParams::default();
    params.not_before = x509_time(validity.not_before);
    params.not_after = x509_time(validity.not_after);
    params.serial_number = Some(random_serial_number());
    params.distinguished_name = name;
    params.subject_alt_names = subject.names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = subject.usages;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(public_key, &authority.issuer()?)?;
    Ok(Leaf { chain_pem: certificate.pem(), validity })
}

/// A serial number that no other certificate has, because it is random (RFC 5280, 4.1.2.2). The encoder's own
/// would be the hash of the key: the same for two certificates of one key.
pub(crate) fn random_serial_number() -> SerialNumber {
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes on every system that runs a mesh");
    // A serial number is positive and not zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

impl fmt::Debug for ServerLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLeaf").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}
