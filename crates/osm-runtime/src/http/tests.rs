use super::*;
use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

async fn server() -> SocketAddr {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/long", get(|| async { "x".repeat(1000) }))
        .route("/never", get(std::future::pending::<&str>))
        .route("/echo", post(|body: String| async { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_body_comes_whole() {
    let answer = get_tcp(server().await, "/long?x=1", Limits::default()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 1000));
}

#[tokio::test]
async fn a_body_above_the_limit_is_an_error() {
    let limits = Limits { body_bytes: 999, ..Limits::default() };
    assert!(matches!(get_tcp(server().await, "/long", limits).await, Err(Error::TooLong(999))));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_an_error() {
    let limits = Limits { timeout: Duration::from_millis(50), ..Limits::default() };
    assert!(matches!(get_tcp(server().await, "/never", limits).await, Err(Error::Timeout(_))));
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_an_error_and_not_a_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    assert!(matches!(get_tcp(address, "/", Limits::default()).await, Err(Error::Exchange(_))));
}

#[tokio::test]
async fn a_unix_socket_answers_too() {
    let folder = std::env::temp_dir().join(format!("osm-runtime-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("s");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let router = Router::new().route("/echo", post(|body: String| async { body }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let answer = post_unix(&socket, "/echo", Bytes::from_static(b"words"), Limits::default()).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"words");
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(get_unix(&socket, "/echo", Limits::default()).await, Err(Error::Connect(_))));
}
