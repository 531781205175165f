//! An HTTP server that goes on, whatever its clients do, and finishes what it has begun when it is told to end.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::say;

/// Connections at once; more wait in the kernel's queue. A proxy has a handful.
const CONNECTION_LIMIT: usize = 1024;
/// How long requests may take that have begun when the program is told to end: well within the 30 s that a pod gets.
const GRACE: Duration = Duration::from_secs(5);
/// After a failure to accept, which is a lack of files or memory: time for some to be given back.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers HTTP/1 requests until told to stop.
pub(crate) async fn serve<A, F>(listener: TcpListener, answer: A, stop: CancellationToken)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // All are cancel safe.
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept(), if connections.len() < CONNECTION_LIMIT => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(stream, answer.clone(), stop.clone()));
                }
                Err(error) => {
                    say(&format!("accepting a connection: {error}"));
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // Nobody is accepted from here on.
    drop(listener);
    timeout(GRACE, connections.join_all()).await.ok();
}

async fn serve_one<A, F>(stream: TcpStream, answer: A, stop: CancellationToken)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that goes away in the middle is its own affair, so how a connection ends does not matter.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}
