//! Bookbuyer and bookthief: the same visits to the bookstore, under different names.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Peer, send};
use crate::{answer, say, server};

/// What OSM's policies for the demo ask for: its programs were written in Go.
const USER_AGENT: &str = "Go-http-client/1.1";
const BOOKS_BOUGHT: &str = "/books-bought";
const BUY_A_BOOK: &str = "/buy-a-book/new";
/// Stores that are counted by name. The name comes from outside; the demo has two.
const STORE_LIMIT: usize = 16;
/// Characters of a proxy's answer that are shown: enough for its reason.
const EXCERPT_LENGTH: usize = 80;

/// Who goes shopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Who may.
    Bookbuyer,
    /// Who may not, when there is a policy.
    Bookthief,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Bookbuyer => "bookbuyer",
            Role::Bookthief => "bookthief",
        }
    }

    fn gain(self) -> &'static str {
        match self {
            Role::Bookbuyer => "books bought",
            Role::Bookthief => "books stolen",
        }
    }
}

/// Visits the bookstore over and over, and counts what becomes of it.
pub(crate) struct Shopper {
    role: Role,
    bookstore: Peer,
    pause: Duration,
    ledger: Mutex<Ledger>,
}

/// What became of the requests so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ledger {
    /// All of them.
    pub(crate) requests: u64,
    /// Answered with 200.
    pub(crate) succeeded: u64,
    /// All others.
    pub(crate) failed: u64,
    /// Those of them that were not answered at all.
    pub(crate) unanswered: u64,
    /// Answers by status.
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Books that were handed over.
    pub(crate) books: u64,
    /// The same by the store's header `identity`.
    pub(crate) books_by_store: BTreeMap<String, u64>,
    /// How the last request that failed did so.
    pub(crate) last_failure: Option<String>,
}

impl Shopper {
    /// A shopper who makes the first visit at once, and each further one `pause` after the start of the last.
    pub(crate) fn new(role: Role, bookstore: Peer, pause: Duration) -> Shopper {
        Shopper { role, bookstore, pause, ledger: Mutex::default() }
    }

    /// The counts as they are now.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.lock().expect("nobody panics while counting").clone()
    }

    /// Shops, and serves the counts, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let shown = Arc::clone(&self);
        let serving = server::serve(listener, move |request| std::future::ready(shown.answer(&request)), stop);
        tokio::select! {
            () = serving => {}
            never = self.shop() => match never {},
        }
    }

    async fn shop(&self) -> Infallible {
        loop {
            let next = Instant::now() + self.pause;
            for path in [BOOKS_BOUGHT, BUY_A_BOOK] {
                self.visit(path).await;
            }
            sleep_until(next).await;
        }
    }

    async fn visit(&self, path: &'static str) {
        let start = Instant::now();
        let request = Request::get(path)
            .header("client-app", self.role.name())
            .header("user-agent", USER_AGENT)
            .body(Full::default())
            .expect("paths and headers are constants that can be sent");
        let result = send(&self.bookstore, request).await;
        let outcome = match &result {
            Ok(answer) => describe(answer),
            Err(error) => format!("no answer: {error:#}"),
        };
        let line = format!("GET http://{}{path}: {outcome}", self.bookstore);
        say(&format!("{line} in {} ms", start.elapsed().as_millis()));
        self.ledger.lock().expect("nobody panics while counting").enter(path, &result, line);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => answer::page(self.role.name(), &self.rows()),
            (&Method::GET, "/counters") => answer::json(&self.ledger()),
            (_, "/" | "/counters") => answer::wrong_method("GET"),
            _ => answer::not_found("GET / and GET /counters"),
        }
    }

    fn rows(&self) -> Vec<(String, String)> {
        let ledger = self.ledger();
        let mut rows = vec![(self.role.gain().to_owned(), ledger.books.to_string())];
        rows.extend(ledger.books_by_store.iter().map(|(store, books)| (format!("from {store}"), books.to_string())));
        rows.push(("requests that succeeded".to_owned(), ledger.succeeded.to_string()));
        rows.push(("requests that failed".to_owned(), ledger.failed.to_string()));
        rows.extend(ledger.by_status.iter().map(|(status, count)| (format!("status {status}"), count.to_string())));
        rows.push(("not answered".to_owned(), ledger.unanswered.to_string()));
        rows.push(("last failure".to_owned(), ledger.last_failure.unwrap_or_else(|| "none".to_owned())));
        rows
    }
}

impl Ledger {
    /// Counts one request; `line` says how it ended.
    fn enter(&mut self, path: &str, result: &Result<Answer>, line: String) {
        self.requests += 1;
        match result {
            Ok(answer) => *self.by_status.entry(answer.status.as_u16()).or_default() += 1,
            Err(_) => self.unanswered += 1,
        }
        let Some(answer) = result.as_ref().ok().filter(|answer| answer.status == StatusCode::OK) else {
            self.failed += 1;
            self.last_failure = Some(line);
            return;
        };
        self.succeeded += 1;
        if path == BUY_A_BOOK {
            self.books += 1;
            let store = identity(answer).unwrap_or("unidentified");
            let is_counted = self.books_by_store.len() < STORE_LIMIT || self.books_by_store.contains_key(store);
            let store = if is_counted { store } else { "others" };
            *self.books_by_store.entry(store.to_owned()).or_default() += 1;
        }
    }
}

/// The status, with the store's name, or the first words of whoever else answered.
fn describe(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    if let Some(store) = identity(answer) {
        return format!("{status} by {store}");
    }
    let text = String::from_utf8_lossy(&answer.body);
    let words: String = text.lines().next().unwrap_or_default().chars().take(EXCERPT_LENGTH).collect();
    if words.is_empty() { status.to_string() } else { format!("{status} {words:?}") }
}

/// Who answered; a proxy does not say.
fn identity(answer: &Answer) -> Option<&str> {
    answer.headers.get("identity")?.to_str().ok()
}
