//! Certificates: the names are those of the token, whatever is asked for.

use osm_pki::KeyAndCsr;
use serde_json::json;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::lab::*;

fn question() -> String {
    json!({ "csr": KeyAndCsr::generate().unwrap().csr_pem }).to_string()
}

#[tokio::test]
async fn a_pod_gets_a_certificate_with_the_names_of_its_token() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    let (status, answer) = lab.certificate(Some(&lab.token("web-1", "web")), &question()).await;
    assert_eq!(status, 200, "{answer}");
    let (_, pem) = parse_x509_pem(answer["certificateChain"].as_str().unwrap().as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let expected =
        [GeneralName::DNSName("web.shop.cluster.local"), GeneralName::URI("spiffe://cluster.local/web/shop")];
    assert_eq!(names.as_slice(), expected);
    let (_, root) = parse_x509_pem(answer["trustBundle"].as_str().unwrap().as_bytes()).unwrap();
    certificate.verify_signature(Some(root.parse_x509().unwrap().public_key())).unwrap();
    let not_after: jiff::Timestamp = answer["notAfter"].as_str().unwrap().parse().unwrap();
    assert_eq!(not_after.as_second(), certificate.validity().not_after.timestamp());
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused_with_a_reason() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    let token = lab.token("web-1", "web");
    for (body, words) in [
        ("", "not JSON"),
        ("{}", "missing field `csr`"),
        (r#"{"csr": "x"}"#, "not PEM"),
        (r#"{"csr": 1}"#, "invalid type"),
    ] {
        let (status, answer) = lab.certificate(Some(&token), body).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    }
    let (status, answer) = lab.certificate(Some(&lab.token("web-1", "not_a_name")), &question()).await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test]
async fn a_pod_that_asks_over_and_over_is_told_to_wait_and_others_are_not() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    let token = lab.token("web-1", "web");
    let mut refused = None;
    for _ in 0..20 {
        let (status, answer) = lab.certificate(Some(&token), &question()).await;
        if status != 200 {
            refused = Some((status, answer["error"].as_str().unwrap().to_owned()));
            break;
        }
    }
    let (status, error) = refused.expect("20 certificates in a second are too many");
    assert_eq!(status, 429);
    assert!(error.contains("try again in"), "{error}");
    assert_eq!(lab.certificate(Some(&lab.token("web-2", "web")), &question()).await.0, 200);
}

#[tokio::test]
async fn the_authority_outlives_the_process() {
    let lab = Lab::new(&[("namespace.yaml", NAMESPACE)]).await;
    let before = std::fs::read(lab.root.join("state/ca.pem")).unwrap();
    let lab = lab.restart().await;
    assert_eq!(std::fs::read(lab.root.join("state/ca.pem")).unwrap(), before);
    assert_eq!(lab.certificate(Some(&lab.token("web-1", "web")), &question()).await.0, 200);
}
