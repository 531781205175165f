//! The way to the controller: TLS to the one port where it serves configuration and certificates, the pod's token, and
//! what is in the way when it does not work.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use osm_startup::Reason;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tower::{Service, ServiceExt};
use zeroize::Zeroizing;

use crate::config::Controller;
use crate::gate::Obstacle;

/// For name look-up, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A controller that vanished without a word is noticed after the sum of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Where the controller names the reason of a refusal.
const REASON_HEADER: &str = "osm-reason";

/// Longer files are not tokens.
const TOKEN_LIMIT_BYTES: usize = 64 * 1024;

/// Connects; `roots` are those who may vouch for the controller, as PEM.
pub async fn connect(controller: &Controller, roots: &str) -> Result<Channel, Obstacle> {
    let unusable = |error: tonic::transport::Error| Obstacle {
        reason: Reason::SettingsUnusable,
        what: format!("the controller's address or authority cannot be used: {}", chain(&error)),
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name(&controller.name);
    let endpoint = Endpoint::from_shared(format!("https://{}", controller.address)).map_err(unusable)?;
    let endpoint = endpoint
        .tls_config(tls)
        .map_err(unusable)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true);
    let connected = tokio::time::timeout(CONNECT_LIMIT, endpoint.connect()).await;
    let connected = connected.map_err(|_| Obstacle {
        reason: Reason::ControllerSilent,
        what: format!("cannot reach {}: no answer within {CONNECT_LIMIT:?}", controller.address),
    })?;
    connected.map_err(|error| unreachable(controller, &error))
}

/// `Bearer <token>`, marked as sensitive so that it is not printed.
pub async fn authorization(token_file: &Path) -> Result<HeaderValue, Obstacle> {
    let refused = |why: String| Obstacle {
        reason: Reason::TokenUnusable,
        what: format!("the pod's token in {} cannot be used: {why}", token_file.display()),
    };
    let token = tokio::fs::read(token_file).await.map(Zeroizing::new).map_err(|error| refused(error.to_string()))?;
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if token.len() > TOKEN_LIMIT_BYTES {
        return Err(refused(format!("it is longer than {TOKEN_LIMIT_BYTES} bytes")));
    }
    let header = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&header).map_err(|_| refused("it is not text".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is in the way when the controller ended or refused a stream.
pub fn refused(status: &Status) -> Obstacle {
    let message = if status.message().is_empty() { "no reason given" } else { status.message() };
    let named = status.metadata().get(REASON_HEADER).and_then(|code| code.to_str().ok()).and_then(Reason::of_code);
    match status.code() {
        Code::Unauthenticated => not_authenticated(named, message),
        Code::PermissionDenied => not_permitted(named, message),
        code => Obstacle {
            reason: named.unwrap_or(Reason::ControllerFailed),
            what: format!("the controller ended the stream: {code:?}: {message}"),
        },
    }
}

/// The token was not accepted, for the reason that the controller named, if it named one.
pub fn not_authenticated(named: Option<Reason>, message: &str) -> Obstacle {
    Obstacle {
        reason: named.unwrap_or(Reason::TokenRefused),
        what: format!("the controller does not accept the pod's token (401): {message}"),
    }
}

/// The token was accepted, and is not enough.
pub fn not_permitted(named: Option<Reason>, message: &str) -> Obstacle {
    Obstacle {
        reason: named.unwrap_or(Reason::TokenRefused),
        what: format!("the controller refuses this pod's service account (403): {message}"),
    }
}

/// Sends JSON to the controller and takes its answer, of at most so many bytes; an error is in words.
pub(crate) async fn post(
    channel: &mut Channel,
    path: &str,
    authorization: HeaderValue,
    body: String,
    limit_bytes: usize,
) -> Result<(StatusCode, Bytes), String> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, authorization)
        .body(tonic::body::Body::new(Full::new(Bytes::from(body))))
        .map_err(|error| error.to_string())?;
    let ready = channel.ready().await.map_err(|error| chain(&error))?;
    let (parts, body) = ready.call(request).await.map_err(|error| chain(&error))?.into_parts();
    let body = Limited::new(body, limit_bytes).collect().await.map_err(|error| chain(&*error))?;
    Ok((parts.status, body.to_bytes()))
}

/// The error and its causes, each once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    // Says nothing.
    texts.retain(|text| text != "transport error");
    // Layers often repeat what is below them.
    texts.dedup_by(|below, above| above.contains(below.as_str()));
    texts.join(": ")
}

fn unreachable(controller: &Controller, error: &tonic::transport::Error) -> Obstacle {
    let text = chain(error);
    let is_tls = causes(error).any(|cause| {
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<rustls::Error>() || inside.is_some_and(|inside| inside.is::<rustls::Error>())
    });
    let Controller { address, name, .. } = controller;
    if is_tls {
        let what = format!(
            "TLS with {address} failed: {text}; its certificate must carry {name} and come from the mesh's authority"
        );
        return Obstacle { reason: Reason::ControllerUntrusted, what };
    }
    Obstacle { reason: why_unreachable(error, &text), what: format!("cannot reach {address}: {text}") }
}

fn why_unreachable(error: &tonic::transport::Error, text: &str) -> Reason {
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let reasons = kinds.filter_map(|kind| match kind {
        ErrorKind::ConnectionRefused => Some(Reason::ControllerRefused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Some(Reason::ControllerUnreachable)
        }
        ErrorKind::TimedOut => Some(Reason::ControllerSilent),
        _ => None,
    });
    // Whoever resolves names has no error of its own; these are hyper's words for that step.
    let unresolved = || text.contains("dns error").then_some(Reason::ControllerUnresolved);
    unresolved().or_else(|| reasons.into_iter().next()).unwrap_or(Reason::ControllerFailed)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[tokio::test]
    async fn a_token_is_trimmed_and_not_printed_and_a_bad_one_says_why() {
        let scratch = Scratch::new("token");
        let file = scratch.path().join("token");
        std::fs::write(&file, "abc.def.ghi\n").unwrap();
        let value = authorization(&file).await.unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer abc.def.ghi");
        assert!(!format!("{value:?}").contains("abc"), "{value:?}");
        std::fs::write(&file, "\n").unwrap();
        let empty = authorization(&file).await.unwrap_err();
        assert_eq!(empty.reason, Reason::TokenUnusable);
        assert!(empty.what.ends_with("cannot be used: it is empty"), "{}", empty.what);
        let absent = authorization(&scratch.path().join("no")).await.unwrap_err();
        assert!(absent.what.contains("No such file"), "{}", absent.what);
    }

    #[tokio::test]
    async fn a_controller_that_is_not_there_is_named_with_the_reason() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let authority = osm_pki::Authority::generate(osm_runtime::clock::now(), "cluster.local").unwrap();
        let controller = Controller {
            address: free.to_string(),
            name: "osm-controller.osm-system.svc".into(),
            root_ca: authority.cert_pem().to_owned(),
            token_file: "/none".into(),
        };
        let obstacle = connect(&controller, &controller.root_ca).await.unwrap_err();
        assert_eq!(obstacle.reason, Reason::ControllerRefused);
        assert!(obstacle.what.starts_with(&format!("cannot reach {free}: ")), "{}", obstacle.what);
        assert!(obstacle.what.contains("refused"), "{}", obstacle.what);
    }

    #[test]
    fn refusals_name_the_token() {
        let obstacle = refused(&Status::unauthenticated("expired"));
        assert_eq!(obstacle.reason, Reason::TokenRefused);
        assert_eq!(obstacle.what, "the controller does not accept the pod's token (401): expired");
        assert_eq!(refused(&Status::permission_denied("x")).reason, Reason::TokenRefused);
        assert_eq!(refused(&Status::unavailable("x")).reason, Reason::ControllerFailed);
        let mut named = Status::unauthenticated("it is old");
        named.metadata_mut().insert(REASON_HEADER, "token-expired".parse().unwrap());
        assert_eq!(refused(&named).reason, Reason::TokenExpired);
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_told_from_an_address_that_nobody_has() {
        let authority = osm_pki::Authority::generate(osm_runtime::clock::now(), "cluster.local").unwrap();
        let controller = Controller {
            address: "no-such-name.invalid:15128".into(),
            name: "osm-controller.osm-system.svc".into(),
            root_ca: authority.cert_pem().to_owned(),
            token_file: "/none".into(),
        };
        let obstacle = connect(&controller, &controller.root_ca).await.unwrap_err();
        assert_eq!(obstacle.reason, Reason::ControllerUnresolved, "{}", obstacle.what);
    }
}
