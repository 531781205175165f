//! The bookstore: sells books, and orders as many from the warehouse.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::{Peer, send};
use crate::{answer, say, server, warehouse};

/// After an order that failed. Sales go on meanwhile, and the next order is for all of them.
const ORDER_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One version of the store.
pub(crate) struct Bookstore {
    identity: HeaderValue,
    warehouse: Peer,
    restock_every: u64,
    /// What the store says that it sold; whoever may POST can set it.
    books_sold: AtomicU64,
    /// What it did sell, which restocking waits for.
    sales: watch::Sender<u64>,
    restocked: AtomicU64,
    restock_failures: AtomicU64,
}

/// What became of the books so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// Which store it is.
    pub(crate) identity: String,
    /// What it says that it sold.
    pub(crate) books_sold: u64,
    /// Books that the warehouse has sent.
    pub(crate) restocked: u64,
    /// Orders that failed.
    pub(crate) restock_failures: u64,
}

impl Bookstore {
    /// A store that orders from `warehouse` as soon as it has sold `restock_every` books, and at least once for each.
    ///
    /// # Errors
    /// When `identity` cannot be the value of a header.
    pub(crate) fn new(identity: &str, warehouse: Peer, restock_every: u64) -> Result<Bookstore> {
        let identity = HeaderValue::from_str(identity)
            .ok()
            .filter(|value| value.to_str().is_ok())
            .with_context(|| format!("IDENTITY {identity:?} is sent as a header: use printable ASCII"))?;
        Ok(Bookstore {
            identity,
            warehouse,
            restock_every,
            books_sold: AtomicU64::new(0),
            sales: watch::Sender::new(0),
            restocked: AtomicU64::new(0),
            restock_failures: AtomicU64::new(0),
        })
    }

    /// The counts as they are now.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            identity: self.identity.to_str().unwrap_or_default().to_owned(),
            books_sold: self.books_sold.load(Ordering::Relaxed),
            restocked: self.restocked.load(Ordering::Relaxed),
            restock_failures: self.restock_failures.load(Ordering::Relaxed),
        }
    }

    /// Sells, and orders, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let seller = Arc::clone(&self);
        let answer = move |request| {
            let seller = Arc::clone(&seller);
            async move { seller.answer(request).await }
        };
        tokio::select! {
            () = server::serve(listener, answer, stop) => {}
            never = self.restock() => match never {},
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let client = request.headers().get("client-app").and_then(|name| name.to_str().ok()).unwrap_or("somebody");
        let asked = format!("{} {} from {client}", request.method(), request.uri().path());
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.page(),
            (&Method::GET, "/books-bought" | "/counters") => answer::json(&self.counters()),
            (&Method::GET, "/buy-a-book/new") => {
                self.books_sold.fetch_add(1, Ordering::Relaxed);
                self.sales.send_modify(|sales| *sales += 1);
                answer::json(&self.counters())
            }
            (&Method::POST, "/update-books-bought") => match warehouse::read_number(request.into_body()).await {
                Ok(number) => {
                    self.books_sold.store(number.into(), Ordering::Relaxed);
                    answer::json(&self.counters())
                }
                Err(message) => answer::line(StatusCode::BAD_REQUEST, &message),
            },
            (_, "/" | "/books-bought" | "/counters" | "/buy-a-book/new") => answer::wrong_method("GET"),
            (_, "/update-books-bought") => answer::wrong_method("POST"),
            _ => answer::not_found(
                "GET /, GET /books-bought, GET /buy-a-book/new, GET /counters and POST /update-books-bought",
            ),
        };
        let books_sold = self.books_sold.load(Ordering::Relaxed);
        say(&format!("{asked}: {}, {books_sold} books sold", response.status().as_u16()));
        response.headers_mut().insert("identity", self.identity.clone());
        // OSM's store has the one, and people look for the other.
        response.headers_mut().insert("booksbought", books_sold.into());
        response.headers_mut().insert("booksold", books_sold.into());
        response
    }

    fn page(&self) -> Response<Full<Bytes>> {
        let Counters { identity, books_sold, restocked, restock_failures } = self.counters();
        let rows = [
            ("books sold", books_sold),
            ("books that the warehouse sent", restocked),
            ("orders that failed", restock_failures),
        ];
        answer::page(&identity, &rows.map(|(name, count)| (name.to_owned(), count.to_string())))
    }

    /// One order at a time, for all books sold since the last: a slow warehouse makes orders larger, not more.
    async fn restock(&self) -> Infallible {
        let mut sales = self.sales.subscribe();
        let mut ordered = 0;
        loop {
            let is_due = |sales: &u64| *sales - ordered >= self.restock_every;
            let sold = *sales.wait_for(is_due).await.expect("the store itself holds the other end");
            let books = sold - ordered;
            match self.order(books).await {
                Ok(()) => {
                    say(&format!("POST http://{}{}: 200 for {books}", self.warehouse, warehouse::RESTOCK_BOOKS));
                    ordered = sold;
                    self.restocked.store(sold, Ordering::Relaxed);
                }
                Err(error) => {
                    say(&format!("POST http://{}{}: {error:#}", self.warehouse, warehouse::RESTOCK_BOOKS));
                    self.restock_failures.fetch_add(1, Ordering::Relaxed);
                    sleep(ORDER_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn order(&self, books: u64) -> Result<()> {
        let request = Request::post(warehouse::RESTOCK_BOOKS)
            .header("client-app", "bookstore")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(books.to_string())))
            .expect("path and headers are constants that can be sent");
        let answer = send(&self.warehouse, request).await?;
        ensure!(answer.status == StatusCode::OK, "{} for {books}", answer.status.as_u16());
        Ok(())
    }
}
