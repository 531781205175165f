//! Certificate requests come from pods: nothing in them may be believed, and none may end the process.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use osm_pki::{
    CsrRequest, DEFAULT_LEAF_LIFETIME, IssueError, KeyAndCsr, Leaf, MAX_CSR_BYTES, RequestError, TrustBundle, issue,
};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::{authority, client, now};

#[test]
fn only_p256_is_signed() {
    let with_key = |algorithm: &'static SignatureAlgorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
    };
    ask(&with_key(&rcgen::PKCS_ECDSA_P256_SHA256)).unwrap();
    assert_eq!(refusal(&with_key(&rcgen::PKCS_ECDSA_P384_SHA384)), RequestError::KeyType);
    assert_eq!(refusal(&with_key(&rcgen::PKCS_ED25519)), RequestError::KeyType);
}

#[test]
fn a_request_must_be_signed_with_its_own_key() {
    let (mine, theirs) = (KeyAndCsr::generate().unwrap(), KeyAndCsr::generate().unwrap());
    let (mut stolen, theirs) = (bytes(&mine.csr_pem), bytes(&theirs.csr_pem));
    // The key, a bit string that begins 00 04, lies at the same place in both: neither has a subject.
    let key_at = theirs.windows(2).position(|pair| pair == [0x00, 0x04]).unwrap() + 1;
    stolen[key_at..key_at + 65].copy_from_slice(&theirs[key_at..key_at + 65]);
    assert_eq!(refusal(&pem(&stolen)), RequestError::Signature);
}

#[test]
fn what_is_no_request_is_refused() {
    assert_eq!(refusal(""), RequestError::NotPem);
    assert_eq!(refusal(authority().cert_pem()), RequestError::NotPem);
    assert_eq!(refusal(&pem(b"nonsense")), RequestError::NotACertificateRequest);
    assert_eq!(refusal(&"x".repeat(MAX_CSR_BYTES + 1)), RequestError::TooLong);
    let mut longer = bytes(&KeyAndCsr::generate().unwrap().csr_pem);
    longer.push(0);
    assert_eq!(refusal(&pem(&longer)), RequestError::NotACertificateRequest);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(der in prop::collection::vec(any::<u8>(), 0..600), text: String) {
        prop_assert!(ask(&pem(&der)).is_err());
        prop_assert!(ask(&text).is_err());
        prop_assert!(TrustBundle::from_pem(&text).is_err());
        prop_assert!(TrustBundle::from_pem(&pem(&der).replace("CERTIFICATE REQUEST", "CERTIFICATE")).is_err());
    }

    #[test]
    fn a_request_with_a_changed_byte_gets_nobody_elses_key_signed(position: prop::sample::Index, bit in 0u8..8) {
        let request = bytes(&KeyAndCsr::generate().unwrap().csr_pem);
        let mut changed = request.clone();
        *position.get_mut(&mut changed) ^= 1 << bit;
        // A few bits of the envelope are not covered by the signature, and change nothing.
        if let Ok(leaf) = ask(&pem(&changed)) {
            let (_, original) = X509CertificationRequest::from_der(&request).unwrap();
            let certificate = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
            let (_, signed) = X509Certificate::from_der(&certificate).unwrap();
            prop_assert_eq!(signed.public_key(), &original.certification_request_info.subject_pki);
        }
    }
}

fn ask(csr_pem: &str) -> Result<Leaf, IssueError> {
    issue(&authority(), &CsrRequest { csr_pem, identity: &client() }, DEFAULT_LEAF_LIFETIME, now())
}

fn refusal(csr_pem: &str) -> RequestError {
    match ask(csr_pem) {
        Err(IssueError::Request(error)) => error,
        other => panic!("the request was not refused for what it is: {other:?}"),
    }
}

fn bytes(pem: &str) -> Vec<u8> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}
