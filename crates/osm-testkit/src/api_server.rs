//! A Kubernetes API server for tests, spoken to over the wire: lists in pages, watches, creates, reviews tokens. It
//! knows no schema, and it fails when it is told to.

mod answer;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use store::Store;

/// The server, on a loopback port that stays the same over restarts. Its objects survive them too.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Option<Serving>>,
}

#[derive(Debug)]
struct Serving {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// Told whenever the store changed.
    changed: watch::Sender<()>,
    /// Ends every watch that is open; replaced each time.
    cut: Mutex<CancellationToken>,
}

impl ApiServer {
    /// A server without any object.
    pub async fn start() -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: watch::Sender::new(()),
            cut: Mutex::new(CancellationToken::new()),
        });
        let server = ApiServer { address, shared, serving: Mutex::default() };
        server.serve(listener);
        server
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": self.url() } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "users": [{ "name": "test", "user": {} }],
        });
        config.to_string()
    }

    /// Creates or replaces an object, as somebody with `kubectl` would.
    pub fn put(&self, object: Value) {
        self.change(|store| store.put(object));
    }

    /// Deletes an object, which must be there.
    pub fn delete(&self, path: &str) {
        self.change(|store| store.delete(path));
    }

    /// The object at a path such as `/api/v1/namespaces/shop/pods/web`.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.shared.lock().get(path).cloned()
    }

    /// Every object below a path such as `/api/v1/pods`.
    pub fn list(&self, path: &str) -> Vec<Value> {
        self.shared.lock().list(path)
    }

    /// Forgets what happened before: a watch from then on is answered with 410 Gone.
    pub fn compact(&self) {
        self.change(Store::compact);
    }

    /// Breaks off every watch that is open.
    pub fn cut_watches(&self) {
        let mut cut = self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cut).cancel();
    }

    /// Answers every request whose path ends in `plural` with this code; 0 answers as it should.
    pub fn fail(&self, plural: &str, code: u16) {
        self.change(|store| store.fail(plural, code));
    }

    /// What a review of this token says: a `TokenReviewStatus`.
    pub fn answer_review(&self, token: &str, status: Value) {
        self.change(|store| store.answer_review(token, status));
    }

    /// The requests so far whose method and path, as `GET /api/v1/pods?watch=true`, contain `words`.
    pub fn count_requests(&self, words: &str) -> usize {
        self.shared.lock().count_requests(words)
    }

    /// Ends as a server that is shut down: every connection is closed, and no other is accepted.
    pub async fn stop(&self) {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Serving { stop, mut running }) = serving else { return };
        stop.cancel();
        loop {
            // A watch may still begin on a connection that has not heard of the end.
            self.cut_watches();
            tokio::select! {
                ended = &mut running => return ended.expect("the server ends when it is asked to"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    /// Listens again on the same port, with the same objects.
    pub fn restart(&self) {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_reuseaddr(true).expect("an address can be reused");
        socket.bind(self.address).expect("the port is still free");
        self.serve(socket.listen(64).expect("a bound socket can listen"));
    }

    fn serve(&self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let router = Router::new().fallback(answer::answer).with_state(self.shared.clone());
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let running = tokio::spawn(async move { serving.await.expect("a loopback socket accepts") });
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(Serving { stop, running });
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.shared.lock());
        self.shared.changed.send_replace(());
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
