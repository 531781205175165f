//! The programs with each other, over loopback.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use osm_testkit::eventually;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Answer, Peer, send};
use crate::shopper::{Role, Shopper};
use crate::store::Bookstore;
use crate::warehouse::{self, Bookwarehouse};
use crate::{answer, server};

const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Where a program serves; it stops when this is dropped.
struct Served {
    peer: Peer,
    _stop: DropGuard,
}

async fn start<F: Future<Output = ()> + Send + 'static>(
    run: impl FnOnce(TcpListener, CancellationToken) -> F,
) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer::service("127.0.0.1", "", listener.local_addr().unwrap().port());
    let stop = CancellationToken::new();
    tokio::spawn(run(listener, stop.clone()));
    Served { peer, _stop: stop.drop_guard() }
}

async fn start_store(identity: &str, warehouse: &Peer, restock_every: u64) -> (Arc<Bookstore>, Served) {
    let store = Arc::new(Bookstore::new(identity, warehouse.clone(), restock_every).unwrap());
    let running = Arc::clone(&store);
    (store, start(|listener, stop| running.run(listener, stop)).await)
}

async fn start_warehouse() -> (Arc<Bookwarehouse>, Served) {
    let warehouse = Arc::new(Bookwarehouse::default());
    let running = Arc::clone(&warehouse);
    (warehouse, start(|listener, stop| running.run(listener, stop)).await)
}

async fn start_shopper(role: Role, bookstore: &Peer) -> (Arc<Shopper>, Served) {
    let shopper = Arc::new(Shopper::new(role, bookstore.clone(), PAUSE));
    let running = Arc::clone(&shopper);
    (shopper, start(|listener, stop| running.run(listener, stop)).await)
}

async fn ask(peer: &Peer, method: Method, path: &str, body: &'static str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Full::from(body)).unwrap();
    send(peer, request).await.unwrap()
}

async fn get(peer: &Peer, path: &str) -> Answer {
    ask(peer, Method::GET, path, "").await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// A server with this answer, in place of a program.
async fn start_with(
    answer: impl Fn(Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> Served {
    start(|listener, stop| server::serve(listener, move |request| ready(answer(request)), stop)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_buys_and_the_store_restocks_every_book_at_the_warehouse() {
    let (warehouse, warehouse_served) = start_warehouse().await;
    let (store, store_served) = start_store("bookstore-v1", &warehouse_served.peer, 1).await;
    let (buyer, buyer_served) = start_shopper(Role::Bookbuyer, &store_served.peer).await;

    eventually(DEADLINE, || buyer.ledger().books >= 5);
    let counters: Value = serde_json::from_slice(&get(&buyer_served.peer, "/counters").await.body).unwrap();
    assert!(counters["books_by_store"]["bookstore-v1"].as_u64() >= Some(5), "{counters}");
    assert_eq!((&counters["failed"], &counters["last_failure"]), (&Value::from(0), &Value::Null));
    assert!(text(&get(&buyer_served.peer, "/").await).contains("<th align=\"left\">from bookstore-v1</th>"));

    drop(buyer_served);
    eventually(DEADLINE, || {
        let (sold, ordered) = (store.counters().books_sold, warehouse.counters().books);
        if sold == ordered { Ok(()) } else { Err(format!("{sold} sold, {ordered} ordered")) }
    });
    eventually(DEADLINE, || store.counters().restocked == store.counters().books_sold);
    assert!(warehouse.counters().orders <= warehouse.counters().books);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_counts_refusals_and_goes_on_when_nobody_answers() {
    let store = start_with(|request| {
        let headers = request.headers();
        assert_eq!(headers["user-agent"], "Go-http-client/1.1");
        let status = if headers["client-app"] == "bookthief" { StatusCode::FORBIDDEN } else { StatusCode::OK };
        answer::line(status, "RBAC: access denied")
    })
    .await;
    let (buyer, _buyer_served) = start_shopper(Role::Bookbuyer, &store.peer).await;
    let (thief, thief_served) = start_shopper(Role::Bookthief, &store.peer).await;

    eventually(DEADLINE, || thief.ledger().by_status.get(&403) >= Some(&4));
    let ledger = thief.ledger();
    assert_eq!((ledger.books, ledger.succeeded, ledger.unanswered), (0, 0, 0), "{ledger:?}");
    assert_eq!(ledger.failed, ledger.requests);
    assert!(
        ledger.last_failure.as_ref().is_some_and(|line| line.ends_with(": 403 \"RBAC: access denied\"")),
        "{ledger:?}"
    );
    eventually(DEADLINE, || buyer.ledger().succeeded >= 4);
    assert_eq!(buyer.ledger().failed, 0);

    drop(store);
    eventually(DEADLINE, || thief.ledger().unanswered >= 4);
    assert!(text(&get(&thief_served.peer, "/").await).contains("connecting: Connection refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_go_on_without_the_warehouse_which_is_asked_for_all_of_them_later() {
    let (is_open, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (gate, orders) = (Arc::clone(&is_open), Arc::clone(&received));
    let warehouse = start_with(move |request| {
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, warehouse::RESTOCK_BOOKS));
        if !gate.load(Ordering::SeqCst) {
            return answer::line(StatusCode::FORBIDDEN, "RBAC: access denied");
        }
        orders.fetch_add(1, Ordering::SeqCst);
        answer::line(StatusCode::OK, "")
    })
    .await;
    let (store, served) = start_store("bookstore-v2", &warehouse.peer, 2).await;

    assert_eq!(get(&served.peer, "/buy-a-book/new").await.status, StatusCode::OK);
    assert_eq!(store.counters().restock_failures, 0, "one book does not make an order of two");
    for sold in 2..=5 {
        assert_eq!(get(&served.peer, "/buy-a-book/new").await.headers["booksold"], sold.to_string());
    }
    eventually(DEADLINE, || store.counters().restock_failures >= 1);
    assert_eq!((store.counters().restocked, received.load(Ordering::SeqCst)), (0, 0));

    is_open.store(true, Ordering::SeqCst);
    eventually(DEADLINE, || store.counters().restocked == 5);
    assert_eq!(received.load(Ordering::SeqCst), 1, "all five in one order");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_says_who_it_is_whatever_it_is_asked() {
    let (_, warehouse) = start_warehouse().await;
    let (_, store) = start_store("bookstore-v1", &warehouse.peer, 1).await;
    let checks = [
        (Method::GET, "/", "", 200, "<h1>bookstore-v1</h1>"),
        (Method::GET, "/books-bought", "", 200, "\"books_sold\":0"),
        (Method::POST, "/buy-a-book/new", "", 405, "use GET"),
        (Method::POST, "/update-books-bought", "many", 400, "the body is the number of books"),
        (Method::POST, "/update-books-bought", " 41\n", 200, "\"books_sold\":41"),
        (Method::GET, "/buy-a-book/new", "", 200, "\"books_sold\":42"),
        (Method::GET, "/cellar", "", 404, "GET /buy-a-book/new"),
    ];
    for (method, path, body, status, part) in checks {
        let answer = ask(&store.peer, method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(text(&answer).contains(part), "{path}: {}", text(&answer));
        assert_eq!(answer.headers["identity"], "bookstore-v1", "{path}");
        assert_eq!(answer.headers["booksold"], answer.headers["booksbought"], "{path}");
    }
    let refused = Bookstore::new("book\nstore", warehouse.peer.clone(), 1).err().map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("IDENTITY \"book\\nstore\" is sent as a header: use printable ASCII"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warehouse_counts_numbers_and_refuses_anything_else() {
    let (warehouse, served) = start_warehouse().await;
    let order = |body| ask(&served.peer, Method::POST, warehouse::RESTOCK_BOOKS, body);
    for (body, status) in [("3", 200), ("", 200), ("-1", 400), ("99999999999", 400), ("[1]", 400)] {
        assert_eq!(order(body).await.status.as_u16(), status, "{body:?}");
    }
    assert_eq!(order("                                        1").await.status, StatusCode::BAD_REQUEST);
    assert_eq!((warehouse.counters().orders, warehouse.counters().books), (2, 4));
    assert_eq!(get(&served.peer, warehouse::RESTOCK_BOOKS).await.headers["allow"], "POST");
}
