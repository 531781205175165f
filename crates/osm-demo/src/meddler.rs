//! A mutating webhook as other products have one: it changes pods without regard to what others have made of them.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::probed::tls_with;
use crate::say;
use crate::server::listen;

/// The container that is put before all others.
const STRANGER: &str = "stranger";

/// Answers admission reviews under this name until killed, and prints the certificate as a webhook's `caBundle` takes it.
pub(crate) async fn serve(port: u16, name: &str) -> Result<()> {
    let (tls, bundle) = certificate(name)?;
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = listen(port).await?;
    say(&format!("serves on {port} with caBundle {bundle}"));
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        tokio::spawn(answer(tls.clone(), stream));
    }
}

/// Made for this run, and its own authority.
fn certificate(name: &str) -> Result<(ServerConfig, String)> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).context("making a certificate")?;
    let CertifiedKey { cert, signing_key } = made;
    let bundle = STANDARD.encode(cert.pem());
    Ok((tls_with(cert.der().clone(), signing_key.into())?, bundle))
}

async fn answer(tls: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(|request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        let review = match request.into_body().collect().await {
            Ok(body) => serde_json::from_slice(&body.to_bytes()).ok(),
            Err(_) => None,
        };
        let meddled = review.as_ref().and_then(|review| meddle(&path, review));
        let mut answer = match &meddled {
            Some(meddled) => Response::new(Full::new(Bytes::from(meddled.to_string()))),
            None => Response::new(Full::new(Bytes::from_static(b"send an AdmissionReview to /first or /strip\n"))),
        };
        if meddled.is_none() {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
        }
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok::<_, Infallible>(answer)
    });
    // The API server closes when it likes, so how a connection ends does not matter.
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

/// The answer to a review; none if it is none, or if nothing is done under this path.
fn meddle(path: &str, review: &Value) -> Option<Value> {
    let request = review.get("request")?;
    let spec = request.pointer("/object/spec")?;
    let inits = spec["initContainers"].as_array().cloned().unwrap_or_default();
    let inits = match path {
        "/first" => put_first(inits, spec["containers"].as_array()?.last()?),
        "/strip" => strip(inits),
        _ => return None,
    };
    let patch = json!([{ "op": "add", "path": "/spec/initContainers", "value": inits }]);
    let response = json!({
        "uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())});
    Some(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// A container that does what the pod's own does runs before all others.
fn put_first(mut inits: Vec<Value>, own: &Value) -> Vec<Value> {
    inits.retain(|container| container["name"] != STRANGER);
    let mut stranger = own.clone();
    stranger["name"] = STRANGER.into();
    inits.insert(0, stranger);
    inits
}

/// What an older library does with a field that it does not know: native sidecars are none any more.
fn strip(mut inits: Vec<Value>) -> Vec<Value> {
    for container in inits.iter_mut().filter_map(Value::as_object_mut) {
        container.remove("restartPolicy");
    }
    inits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meddled(path: &str) -> Value {
        let pod = json!({ "spec": {
            "initContainers": [{ "name": "osm-init" }, { "name": "envoy", "restartPolicy": "Always" }],
            "containers": [{ "name": "once", "image": "demo" }]}});
        let review = meddle(path, &json!({ "request": { "uid": "u", "object": pod }})).unwrap();
        assert_eq!(review["response"]["uid"], "u");
        let patch = STANDARD.decode(review["response"]["patch"].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&patch).unwrap()[0]["value"].clone()
    }

    #[test]
    fn it_comes_first() {
        let names: Vec<Value> = meddled("/first").as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        assert_eq!(names, ["stranger", "osm-init", "envoy"]);
    }

    #[test]
    fn it_forgets_what_it_does_not_know() {
        assert_eq!(meddled("/strip"), json!([{ "name": "osm-init" }, { "name": "envoy" }]));
    }

    #[test]
    fn it_answers_nothing_else() {
        assert_eq!(meddle("/", &json!({ "request": { "object": { "spec": {} } }})), None);
        assert_eq!(meddle("/first", &json!({})), None);
    }
}
