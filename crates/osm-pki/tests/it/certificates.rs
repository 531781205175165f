//! Certificates: their names, their uses, and that none outlives its issuer.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use osm_pki::{
    Authority, AuthorityError, CLOCK_SKEW_ALLOWANCE, CsrRequest, DEFAULT_LEAF_LIFETIME, IssueError, KeyAndCsr, Leaf,
    ROOT_LIFETIME, TrustBundle, ValidityError, WorkloadIdentity, issue, issue_server,
};
use proptest::prelude::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{authority, client, now};

#[test]
fn a_leaf_carries_the_identity_and_nothing_else() {
    let (authority, workload) = (authority(), KeyAndCsr::generate().unwrap());
    let leaf = issue(&authority, &request(&workload, &client()), DEFAULT_LEAF_LIFETIME, now()).unwrap();

    assert_eq!(names(&leaf), ["DNS client.shop.cluster.local", "URI spiffe://cluster.local/client/shop"]);
    assert_eq!(leaf.validity.not_before, now() - CLOCK_SKEW_ALLOWANCE);
    assert_eq!(leaf.validity.not_after, now() + DEFAULT_LEAF_LIFETIME);
    let der = der(&leaf);
    let (_, x509) = X509Certificate::from_der(&der).unwrap();
    assert!(!x509.is_ca());
    assert_eq!(x509.validity().not_after.timestamp(), leaf.validity.not_after.as_second());
    assert_eq!(x509.validity().not_before.timestamp(), leaf.validity.not_before.as_second());
    let usage = x509.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any && !usage.code_signing);
    let usage = x509.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
}

#[test]
fn names_in_the_request_are_not_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["admin.kube-system.cluster.local".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    let csr_pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = CsrRequest { csr_pem: &csr_pem, identity: &client() };

    let leaf = issue(&authority(), &request, DEFAULT_LEAF_LIFETIME, now()).unwrap();

    assert_eq!(names(&leaf), ["DNS client.shop.cluster.local", "URI spiffe://cluster.local/client/shop"]);
    let der = der(&leaf);
    let (_, x509) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(x509.subject().to_string(), "O=Open Service Mesh, CN=client.shop.cluster.local");
    assert!(!x509.is_ca());
}

#[test]
fn both_ends_of_a_connection_accept_a_leaf_until_it_expires() {
    let (authority, workload) = (authority(), KeyAndCsr::generate().unwrap());
    let lifetime = SignedDuration::from_hours(1);
    let leaf = issue(&authority, &request(&workload, &client()), lifetime, now()).unwrap();

    accepted_as_client(&authority, &leaf, now()).unwrap();
    accepted_as_server(&authority, &leaf, "client.shop.cluster.local", now()).unwrap();
    accepted_as_client(&authority, &leaf, now() - SignedDuration::from_mins(4)).unwrap();
    accepted_as_client(&authority, &leaf, now() + lifetime + SignedDuration::from_secs(1)).unwrap_err();
    accepted_as_server(&authority, &leaf, "server.shop.cluster.local", now()).unwrap_err();
    let stranger = Authority::generate(now(), "cluster.local").unwrap();
    accepted_as_client(&stranger, &leaf, now()).unwrap_err();
}

#[test]
fn a_server_certificate_is_for_its_names_and_for_serving_only() {
    let authority = authority();
    let dns_names = ["osm-controller.osm-system.svc", "osm-controller.osm-system.svc.cluster.local"].map(String::from);
    let server = issue_server(&authority, &dns_names, DEFAULT_LEAF_LIFETIME, now()).unwrap();

    for name in &dns_names {
        accepted_as_server(&authority, &server.leaf, name, now()).unwrap();
    }
    accepted_as_client(&authority, &server.leaf, now()).unwrap_err();
    assert!(matches!(issue_server(&authority, &[], DEFAULT_LEAF_LIFETIME, now()), Err(IssueError::NoName)));
    let wrong = issue_server(&authority, &["*.svc".to_owned()], DEFAULT_LEAF_LIFETIME, now());
    assert!(matches!(wrong, Err(IssueError::Name(_))), "{wrong:?}");
}

#[test]
fn an_authority_kept_as_pem_signs_as_before() {
    let made = authority();
    let loaded = Authority::from_pem(made.cert_pem(), &made.key_pem()).unwrap();
    assert_eq!(loaded.validity(), made.validity());
    assert_eq!(loaded.validity().not_after, now() + ROOT_LIFETIME);
    let leaf =
        issue(&loaded, &request(&KeyAndCsr::generate().unwrap(), &client()), DEFAULT_LEAF_LIFETIME, now()).unwrap();
    accepted_as_client(&made, &leaf, now()).unwrap();
}

#[test]
fn an_authority_that_cannot_sign_is_refused() {
    let (one, other) = (authority(), authority());
    let load = |cert: &str, key: &str| Authority::from_pem(cert, key).unwrap_err();
    assert!(matches!(load(one.cert_pem(), &other.key_pem()), AuthorityError::KeyMismatch));
    assert!(matches!(load(one.cert_pem(), "no key"), AuthorityError::Key));
    assert!(matches!(load("no certificate", &one.key_pem()), AuthorityError::Certificate(_)));
    let server = issue_server(&one, &["a.b".to_owned()], DEFAULT_LEAF_LIFETIME, now()).unwrap();
    assert!(matches!(load(&server.leaf.chain_pem, &server.key_pem), AuthorityError::NotAnAuthority));
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(load(one.cert_pem(), &p384.serialize_pem()), AuthorityError::Key));
    assert!(matches!(Authority::generate(now(), "not a name"), Err(AuthorityError::TrustDomain(_))));
}

#[test]
fn an_expired_authority_signs_nothing() {
    let authority = authority();
    let workload = KeyAndCsr::generate().unwrap();
    for at in [authority.validity().not_after, authority.validity().not_before - SignedDuration::from_secs(1)] {
        let refused = issue(&authority, &request(&workload, &client()), DEFAULT_LEAF_LIFETIME, at);
        assert!(
            matches!(refused, Err(IssueError::Validity(ValidityError::IssuerNotValid { .. }))),
            "{at}: {refused:?}"
        );
    }
}

#[test]
fn two_certificates_of_one_key_have_different_serial_numbers() {
    let (authority, workload) = (authority(), KeyAndCsr::generate().unwrap());
    let serial = || {
        let leaf = issue(&authority, &request(&workload, &client()), DEFAULT_LEAF_LIFETIME, now()).unwrap();
        let der = der(&leaf);
        X509Certificate::from_der(&der).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn secrets_are_not_printed() {
    let (authority, workload) = (authority(), KeyAndCsr::generate().unwrap());
    let server = issue_server(&authority, &["a.b".to_owned()], DEFAULT_LEAF_LIFETIME, now()).unwrap();
    for printed in [format!("{authority:?}"), format!("{workload:?}"), format!("{server:?}")] {
        assert!(!printed.contains("PRIVATE KEY"), "{printed}");
    }
}

#[test]
fn long_names_stand_in_the_alternative_names_only() {
    let identity = WorkloadIdentity::new("cluster.local", &"n".repeat(63), &"s".repeat(63)).unwrap();
    let workload = KeyAndCsr::generate().unwrap();
    let authority = authority();
    let leaf = issue(&authority, &request(&workload, &identity), DEFAULT_LEAF_LIFETIME, now()).unwrap();
    accepted_as_server(&authority, &leaf, &identity.dns_name(), now()).unwrap();
    let der = der(&leaf);
    assert_eq!(X509Certificate::from_der(&der).unwrap().1.subject().to_string(), "O=Open Service Mesh");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_leaf_never_outlives_its_issuer(
        age_s in -400_000_000i64..400_000_000,
        lifetime_s in 1i64..800_000_000,
    ) {
        let authority = authority();
        let at = now() + SignedDuration::from_secs(age_s);
        let workload = KeyAndCsr::generate().unwrap();
        let lifetime = SignedDuration::from_secs(lifetime_s);
        match issue(&authority, &request(&workload, &client()), lifetime, at) {
            Ok(leaf) => {
                prop_assert!(leaf.validity.not_after <= authority.validity().not_after);
                prop_assert!(leaf.validity.not_before >= authority.validity().not_before);
                prop_assert!(leaf.validity.not_before <= at && at < leaf.validity.not_after);
                let der = der(&leaf);
                let (_, x509) = X509Certificate::from_der(&der).unwrap();
                prop_assert_eq!(x509.validity().not_after.timestamp(), leaf.validity.not_after.as_second());
            }
            Err(error) => {
                let outside = at < authority.validity().not_before || at >= authority.validity().not_after;
                prop_assert!(outside, "{}", error);
            }
        }
    }
}

fn request<'a>(workload: &'a KeyAndCsr, identity: &'a WorkloadIdentity) -> CsrRequest<'a> {
    CsrRequest { csr_pem: &workload.csr_pem, identity }
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap()
}

fn names(leaf: &Leaf) -> Vec<String> {
    let der = der(leaf);
    let (_, x509) = X509Certificate::from_der(&der).unwrap();
    let names = x509.subject_alternative_name().unwrap().unwrap();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(uri) => format!("URI {uri}"),
        other => format!("unexpected {other:?}"),
    };
    names.value.general_names.iter().map(name).collect()
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in TrustBundle::of(&[authority]).unwrap().roots() {
        roots.add(root.clone()).unwrap();
    }
    Arc::new(roots)
}

fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().try_into().unwrap()))
}

fn accepted_as_client(authority: &Authority, leaf: &Leaf, at: Timestamp) -> Result<(), rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), default_provider().into());
    verifier.build().unwrap().verify_client_cert(&der(leaf), &[], unix_time(at)).map(|_| ())
}

fn accepted_as_server(authority: &Authority, leaf: &Leaf, name: &str, at: Timestamp) -> Result<(), rustls::Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority), default_provider().into());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.build().unwrap().verify_server_cert(&der(leaf), &[], &name, &[], unix_time(at)).map(|_| ())
}
