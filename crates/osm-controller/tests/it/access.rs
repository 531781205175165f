//! Who is not let in.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use osm_pki::{Claims, TokenKey, mint};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tonic::Code;

use crate::lab::*;

/// Each token that must not be believed, with what is said to it.
fn bad_tokens(lab: &Lab) -> Vec<(Option<String>, &'static str)> {
    let good = lab.claims("client", "client");
    let expired = Claims { exp: Timestamp::now() - SignedDuration::from_secs(1), ..good.clone() };
    let elsewhere = Claims { aud: "https://kubernetes.default.svc".to_owned(), ..good.clone() };
    vec![
        (None, "no token"),
        (Some("nonsense".to_owned()), "not a signed JSON web token"),
        (Some(mint(&TokenKey::generate(), &good)), "the token is refused"),
        (Some(mint(&lab.key, &expired)), "expired"),
        (Some(mint(&lab.key, &elsewhere)), "kubernetes.default.svc"),
    ]
}

#[tokio::test]
async fn nobody_opens_a_session_without_a_good_token() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    for (token, words) in bad_tokens(&lab) {
        let Err(status) = Ads::open(lab.channel().await, token.as_deref()).await else {
            panic!("{token:?} opened a session");
        };
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(words), "{status}");
    }
    assert_eq!(lab.debug("/debug/sessions").await.as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn nobody_gets_a_certificate_without_a_good_token() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    for (token, words) in bad_tokens(&lab) {
        let (status, body) = lab.certificate(token.as_deref(), "{}").await;
        assert_eq!(status, 401);
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
    let (_, metrics) = lab.get("/metrics").await;
    assert!(metrics.contains(r#"osm_refusals_total{reason="token-expired"} 1"#), "{metrics}");
}

#[tokio::test]
async fn debug_is_for_those_who_can_read_the_token() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    for authorization in [None, Some("Bearer "), Some("Bearer wrong"), Some("Basic x")] {
        let (status, body) = lab.debug_with("/debug/world", authorization).await;
        assert_eq!(status, 401, "{body}");
    }
}

#[tokio::test]
async fn the_port_for_sidecars_speaks_tls_1_3_alone_under_our_own_authority() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    let connect = async |versions: &[&'static rustls::SupportedProtocolVersion], name: &'static str| {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(lab.root.join("state/ca.pem")).unwrap();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(lab.ads).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::try_from(name).unwrap(), stream).await.map(|_| ())
    };
    connect(&[&rustls::version::TLS13], SERVER_NAME).await.unwrap();
    connect(&[&rustls::version::TLS13], "osm-controller.osm-system.svc.cluster.local").await.unwrap();
    connect(&[&rustls::version::TLS12], SERVER_NAME).await.unwrap_err();
    connect(&[&rustls::version::TLS13], "client.shop.cluster.local").await.unwrap_err();
}
