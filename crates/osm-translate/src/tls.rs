//! TLS between proxies. Only names of secrets are here: the pod's agent holds what they name.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as envoy;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::util::pack_any;
use osm_model::{Service, Settings, TlsSettings, TlsVersion};

use crate::names::{ALPN, ROOT_CERT, SERVICE_CERT, fqdn};
use crate::parts::{ads, transport_socket, yes};

/// Nobody's name (RFC 2606, section 2). A check against no name at all would let every identity of the mesh answer.
const NOBODY: &str = "nobody.invalid";

/// A client's side towards one service: only the service's own identities may answer.
pub(crate) fn upstream(service: &Service, settings: &Settings) -> TransportSocket {
    let names = service.identities.iter().map(|identity| identity.dns_name(&settings.trust_domain));
    let context = envoy::UpstreamTlsContext {
        common_tls_context: Some(common(&settings.tls, only(names.collect()))),
        sni: fqdn(&service.name, settings),
        ..Default::default()
    };
    transport_socket("envoy.transport_sockets.tls", pack_any(context))
}

/// Whose certificates a server accepts.
#[derive(Clone, Debug)]
pub(crate) enum Clients {
    /// Every workload's of the mesh.
    OfMesh,
    /// Those of these identities, by the DNS names in them; nobody's when there is none.
    Only(BTreeSet<String>),
}

/// A server's side: every client shows a certificate of the mesh. One that is not accepted ends the handshake, before
/// the client could hear anything.
pub(crate) fn downstream(clients: Clients, settings: &Settings) -> TransportSocket {
    let validation = match clients {
        Clients::OfMesh => ValidationContextType::ValidationContextSdsSecretConfig(secret(ROOT_CERT)),
        Clients::Only(names) => only(names),
    };
    let context = envoy::DownstreamTlsContext {
        common_tls_context: Some(common(&settings.tls, validation)),
        require_client_certificate: yes(),
        ..Default::default()
    };
    transport_socket("envoy.transport_sockets.tls", pack_any(context))
}

/// Certificates of the mesh with one of these DNS names; with none of them there is nobody whose it could be.
fn only(names: BTreeSet<String>) -> ValidationContextType {
    let mut matchers: Vec<_> = names.into_iter().map(exact_dns_name).collect();
    if matchers.is_empty() {
        matchers.push(exact_dns_name(NOBODY.to_owned()));
    }
    let names = envoy::CertificateValidationContext { match_typed_subject_alt_names: matchers, ..Default::default() };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(names),
        validation_context_sds_secret_config: Some(secret(ROOT_CERT)),
        ..Default::default()
    })
}

fn common(tls: &TlsSettings, validation: ValidationContextType) -> envoy::CommonTlsContext {
    let params = envoy::TlsParameters {
        tls_minimum_protocol_version: version(tls.min).into(),
        tls_maximum_protocol_version: version(tls.max).into(),
        cipher_suites: tls.cipher_suites.clone(),
        ecdh_curves: tls.ecdh_curves.clone(),
        ..Default::default()
    };
    envoy::CommonTlsContext {
        tls_params: Some(params),
        tls_certificate_sds_secret_configs: vec![secret(SERVICE_CERT)],
        validation_context_type: Some(validation),
        alpn_protocols: vec![ALPN.to_owned()],
        ..Default::default()
    }
}

fn secret(name: &str) -> envoy::SdsSecretConfig {
    envoy::SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

fn exact_dns_name(name: String) -> envoy::SubjectAltNameMatcher {
    let matcher = StringMatcher { match_pattern: Some(MatchPattern::Exact(name)), ..Default::default() };
    envoy::SubjectAltNameMatcher { san_type: SanType::Dns.into(), matcher: Some(matcher), ..Default::default() }
}

fn version(version: TlsVersion) -> TlsProtocol {
    match version {
        TlsVersion::Auto => TlsProtocol::TlsAuto,
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    }
}
