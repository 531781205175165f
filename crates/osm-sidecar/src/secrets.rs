//! The workload's certificate in Envoy's words: the two secrets that every TLS context of the mesh refers to.

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use osm_xds::{Resource, ResourceType, Resources};
use prost::Message;

use crate::identity::Workload;

/// What the workload shows.
pub const SERVICE_CERT: &str = "service-cert";

/// Whom it trusts.
pub const ROOT_CERT: &str = "root-cert";

/// The controller's resources and the pod's own secrets.
pub fn with_secrets(copy: &Resources, workload: &Workload) -> Resources {
    let mut all = copy.clone();
    all.insert(ResourceType::Secret, service_cert(workload));
    all.insert(ResourceType::Secret, root_cert(workload));
    all
}

fn service_cert(workload: &Workload) -> Resource {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(&workload.chain_pem)),
        private_key: Some(inline(&workload.key_pem)),
        ..TlsCertificate::default()
    };
    let secret = Resource::new(SERVICE_CERT, encode(SERVICE_CERT, secret::Type::TlsCertificate(certificate)));
    // Versions are shown by Envoy and in status: this one is a hash of the public part, which names its key.
    let version = Resource::new(SERVICE_CERT, workload.chain_pem.as_bytes()).version;
    Resource { version, ..secret }
}

fn root_cert(workload: &Workload) -> Resource {
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(&workload.bundle_pem)),
        ..CertificateValidationContext::default()
    };
    Resource::new(ROOT_CERT, encode(ROOT_CERT, secret::Type::ValidationContext(context)))
}

fn encode(name: &str, content: secret::Type) -> Vec<u8> {
    Secret { name: name.to_owned(), r#type: Some(content) }.encode_to_vec()
}

fn inline(pem: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineString(pem.to_owned())), ..DataSource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn workload(key: &str) -> Workload {
        Workload {
            key_pem: key.to_owned().into(),
            chain_pem: "CHAIN".into(),
            bundle_pem: "ROOTS".into(),
            issued: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_secrets_stand_beside_the_copy_and_the_version_tells_nothing_of_the_key() {
        let mut copy = Resources::default();
        copy.insert(ResourceType::Cluster, Resource::new("c", b"x".as_slice()));
        let all = with_secrets(&copy, &workload("KEY"));
        assert_eq!(all.len(), 3);
        let body = &all.get(ResourceType::Secret, SERVICE_CERT).unwrap().body;
        let secret = Secret::decode(&body[..]).unwrap();
        let Some(secret::Type::TlsCertificate(certificate)) = secret.r#type else { panic!("not a certificate") };
        assert_eq!(certificate.private_key, Some(inline("KEY")));
        let version = |key| with_secrets(&copy, &workload(key)).version_of(ResourceType::Secret);
        assert_eq!(version("KEY"), version("OTHER"));
    }
}
