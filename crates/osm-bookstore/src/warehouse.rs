//! The bookwarehouse: takes orders for books and counts them. It keeps nothing, so it needs no database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{answer, say, server};

/// Where orders go. The body is the number of books; without one it is a single book.
pub(crate) const RESTOCK_BOOKS: &str = "/restock-books";
/// Bytes of a number, with room for spaces around it.
const NUMBER_LIMIT: usize = 32;

/// All orders so far.
#[derive(Default)]
pub(crate) struct Bookwarehouse {
    orders: AtomicU64,
    books: AtomicU64,
}

/// What was ordered so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// How many times.
    pub(crate) orders: u64,
    /// How many books.
    pub(crate) books: u64,
}

impl Bookwarehouse {
    /// The counts as they are now.
    pub(crate) fn counters(&self) -> Counters {
        Counters { orders: self.orders.load(Ordering::Relaxed), books: self.books.load(Ordering::Relaxed) }
    }

    /// Takes orders until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let answer = move |request| {
            let warehouse = Arc::clone(&self);
            async move { warehouse.answer(request).await }
        };
        server::serve(listener, answer, stop).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.page(),
            (&Method::GET, "/counters") => answer::json(&self.counters()),
            (&Method::POST, RESTOCK_BOOKS) => match read_number(request.into_body()).await {
                Ok(number) => {
                    self.orders.fetch_add(1, Ordering::Relaxed);
                    let books = self.books.fetch_add(number.into(), Ordering::Relaxed) + u64::from(number);
                    say(&format!("POST {RESTOCK_BOOKS}: 200 for {number}, {books} books in all"));
                    answer::json(&self.counters())
                }
                Err(message) => {
                    say(&format!("POST {RESTOCK_BOOKS}: 400, {message}"));
                    answer::line(StatusCode::BAD_REQUEST, &message)
                }
            },
            (_, "/" | "/counters") => answer::wrong_method("GET"),
            (_, RESTOCK_BOOKS) => answer::wrong_method("POST"),
            _ => answer::not_found("GET /, GET /counters and POST /restock-books"),
        }
    }

    fn page(&self) -> Response<Full<Bytes>> {
        let Counters { orders, books } = self.counters();
        let rows = [("orders", orders), ("books sent", books)];
        answer::page("bookwarehouse", &rows.map(|(name, count)| (name.to_owned(), count.to_string())))
    }
}

/// The number of books that a body holds.
///
/// # Errors
/// What to send instead.
pub(crate) async fn read_number(body: Incoming) -> Result<u32, String> {
    let wrong = || "the body is the number of books, as 3".to_owned();
    let bytes = Limited::new(body, NUMBER_LIMIT).collect().await.map_err(|_| wrong())?.to_bytes();
    let text = str::from_utf8(&bytes).map_err(|_| wrong())?.trim();
    if text.is_empty() { Ok(1) } else { text.parse().map_err(|_| wrong()) }
}
