use super::*;
use axum::http::HeaderValue;
use osm_redirect::HttpProbe;

/// An application that answers 302 at `/ok` to those who say who they are, and 500 elsewhere.
async fn application() -> u16 {
    let ok = async |headers: HeaderMap| {
        let said = headers.get("x-who").map(HeaderValue::as_bytes);
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let is_known = said == Some(b"kubelet") && agent == Some(b"kube-probe/1.31");
        if is_known { StatusCode::FOUND } else { StatusCode::UNAUTHORIZED }
    };
    let router = Router::new().route("/ok", get(ok)).fallback(async || StatusCode::INTERNAL_SERVER_ERROR);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn check(action: ProbeAction) -> Outcome {
    action::carry_out(&action, Some(HeaderValue::from_static("kube-probe/1.31")), Duration::from_secs(10)).await
}

fn http(port: u16, path: &str, headers: &[(&str, &str)]) -> ProbeAction {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ProbeAction::Http(HttpProbe { port, path: path.to_owned(), is_tls: false, headers })
}

#[tokio::test]
async fn the_application_is_asked_what_the_kubelet_would_have_asked() {
    let port = application().await;
    assert_eq!(check(http(port, "/ok", &[("x-who", "kubelet")])).await, Outcome::Passes);
    assert_eq!(check(http(port, "ok", &[("x-who", "kubelet")])).await, Outcome::Passes);
    assert_eq!(check(http(port, "/ok", &[])).await, Outcome::Answers(StatusCode::UNAUTHORIZED));
    assert_eq!(check(http(port, "/", &[])).await, Outcome::Answers(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(check(ProbeAction::Tcp { port }).await, Outcome::Passes);
}

#[tokio::test]
async fn nobody_there_and_nobody_who_answers_fail_with_words() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let Outcome::Fails(why) = check(ProbeAction::Tcp { port: gone }).await else { panic!("somebody listens") };
    assert!(why.starts_with("nobody listens on 127.0.0.1:"), "{why}");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let action = http(silent.local_addr().unwrap().port(), "/", &[]);
    let outcome = action::carry_out(&action, None, Duration::from_millis(20)).await;
    assert_eq!(outcome, Outcome::Fails("the application does not answer within 20ms".to_owned()));
}

#[tokio::test]
async fn an_application_that_is_no_grpc_server_does_not_pass_for_one() {
    let port = application().await;
    let action = ProbeAction::Grpc { port, service: "a".to_owned() };
    assert!(matches!(check(action).await, Outcome::Fails(_)));
}

#[tokio::test]
async fn a_grpc_server_passes_when_it_says_serving() {
    let health = |status: u8| async move {
        let body = vec![0, 0, 0, 0, 2, 0x08, status];
        ([(header::CONTENT_TYPE, "application/grpc")], body)
    };
    let serving =
        |status: u8| Router::new().route("/grpc.health.v1.Health/Check", axum::routing::post(move || health(status)));
    for (status, passes) in [(1, true), (2, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let routes = tonic::service::Routes::from(serving(status));
        tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));
        let outcome = check(ProbeAction::Grpc { port, service: "shop".to_owned() }).await;
        assert_eq!(outcome == Outcome::Passes, passes, "{outcome:?}");
    }
}

#[tokio::test]
async fn the_page_says_what_the_probe_came_to_and_never_redirects() {
    use axum::body::Body;
    use axum::extract::Request;
    use tower::ServiceExt;

    let port = application().await;
    let limit = Duration::from_secs(10);
    let probes = BTreeMap::from([
        ("good".to_owned(), (limit, http(port, "/ok", &[("x-who", "kubelet")]))),
        ("bad".to_owned(), (limit, http(port, "/", &[]))),
    ]);
    let router = router(ProbeKind::Liveness, Arc::new(probes));
    for (path, status) in [
        ("/osm-liveness-probe/good", StatusCode::OK),
        ("/osm-liveness-probe/bad", StatusCode::INTERNAL_SERVER_ERROR),
        ("/osm-liveness-probe/other", StatusCode::NOT_FOUND),
        ("/osm-readiness-probe/good", StatusCode::NOT_FOUND),
    ] {
        let request = Request::builder().uri(path).header(header::USER_AGENT, "kube-probe/1.31");
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}
