//! What policies do to traffic: a real Envoy, real certificates, and connections that live through changes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use osm_testkit::eventually;

use crate::lab::{DEADLINE, Lab, address, connect, request, serve_http};
use crate::view;

const HTTP: u16 = 8080;
const TCP: u16 = 3306;

const PERMISSIVE: &str = "
proxy: shop/web
inbound: {8080: http}
";

const GRANTED: &str = "
proxy: shop/web
access: granted
inbound: {8080: http}
grants:
  shop/one: {sources: [shop/client], http: [{path: /books.*, methods: [GET], headers: {host: shop}}]}
  shop/two: {sources: [shop/other], http: [{path: /books}]}
";

/// A request on a connection that stays open.
fn get(stream: &mut (impl Read + Write), path: &str) -> io::Result<(u16, String)> {
    request(stream, &format!("GET {path} HTTP/1.1\r\nhost: shop"))
}

#[test]
fn the_mode_and_policies_change_for_the_next_request_of_open_connections_and_end_none() {
    let lab = Lab::start(&view::read(PERMISSIVE), HTTP);
    serve_http(lab.application, HTTP);
    let open = |from: &str| connect(from, "shop/web", lab.address, HTTP).expect("a connection is taken");
    let (mut client, mut thief) = (open("shop/client"), open("shop/thief"));
    let mut status = |path: &str| get(&mut client, path).expect("the connection stays open").0;
    assert_eq!((status("/books"), status("/other")), (200, 200));
    assert_eq!(get(&mut thief, "/books").expect("an answer").0, 200);

    lab.tell(&view::read(GRANTED));
    eventually(DEADLINE, || {
        assert_eq!(status("/books"), 200, "both modes allow it");
        get(&mut thief, "/books").expect("the connection stays open").0 == 403
    });
    assert_eq!((status("/books?x=1"), status("/books/../books/1"), status("/books-new")), (200, 200, 200));
    assert_eq!((status("/other"), status("/books/../other"), status("/Books")), (403, 403, 403));
    eventually(DEADLINE, || lab.log().contains("rbac_access_denied_matched_policy[none]"));
    let mut head = |head: &str| request(&mut client, head).expect("the connection stays open").0;
    assert_eq!(head("POST /books HTTP/1.1\r\nhost: shop\r\ncontent-length: 0"), 403);
    assert_eq!(head("GET /books HTTP/1.1\r\nhost: shop.example"), 403);
    let mut other = open("shop/other");
    assert_eq!(get(&mut other, "/books").expect("an answer").0, 200, "a second policy for the same requests");
    assert_eq!(get(&mut other, "/books-new").expect("an answer").0, 403);

    // The policy is taken back.
    lab.tell(&view::read(&GRANTED.replace("shop/client", "shop/nobody")));
    eventually(DEADLINE, || get(&mut client, "/books").expect("the connection stays open").0 == 403);
    assert_eq!(get(&mut other, "/books").expect("the connection stays open").0, 200);

    lab.tell(&view::read(PERMISSIVE));
    eventually(DEADLINE, || {
        assert_eq!(get(&mut other, "/books").expect("the connection stays open").0, 200, "both modes allow it");
        get(&mut thief, "/books").expect("the connection stays open").0 == 200
    });
}

const GRANTED_TCP: &str = "
proxy: shop/db
access: granted
inbound: {3306: tcp-server-first}
grants:
  shop/db: {sources: [shop/client], tcp: [3306]}
  shop/http: {sources: [shop/web], http: [{}]}
";

/// Greets whoever connects and then says everything back; counts who came.
fn serve_greeting(lab: &Lab) -> Arc<AtomicUsize> {
    let came = Arc::new(AtomicUsize::new(0));
    let counter = came.clone();
    let listener = TcpListener::bind((lab.application, TCP)).expect("nobody else has the address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                stream.write_all(b"hello")?;
                io::copy(&mut stream.try_clone()?, &mut stream)
            });
        }
    });
    came
}

/// What a client hears before the connection ends, five bytes at most.
fn heard(lab: &Lab, from: &str) -> String {
    let mut stream = connect(from, "shop/db", lab.address, TCP).expect("a connection is taken");
    let mut heard = Vec::new();
    // However it ends.
    (&mut stream).take(5).read_to_end(&mut heard).ok();
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn not_one_byte_of_a_server_that_speaks_first_is_heard_without_a_grant() {
    let lab = Lab::start(&view::read(GRANTED_TCP), TCP);
    let came = serve_greeting(&lab);
    assert_eq!(heard(&lab, "shop/client"), "hello");
    // One without any grant, and one with a grant for HTTP requests alone.
    assert_eq!((heard(&lab, "shop/thief"), heard(&lab, "shop/web")), (String::new(), String::new()));
    let mut plain = TcpStream::connect((lab.address, TCP)).expect("a connection is taken");
    plain.write_all(b"hello?").expect("it is open");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).ok();
    assert_eq!(answer, b"");
    assert_eq!(heard(&lab, "shop/client"), "hello");
    assert_eq!(came.load(Ordering::SeqCst), 2, "the application has not seen the others at all");
}

#[test]
fn a_grant_that_is_taken_back_ends_open_tcp_connections() {
    let lab = Lab::start(&view::read(GRANTED_TCP), TCP);
    serve_greeting(&lab);
    let mut stream = connect("shop/client", "shop/db", lab.address, TCP).expect("a connection is taken");
    let mut five = [0; 5];
    for _ in 0..3 {
        stream.read_exact(&mut five).expect("the greeting, and what is said back");
        stream.write_all(b"again").expect("it is open");
    }
    // What does not change the sources leaves it open.
    lab.tell(&view::read(&GRANTED_TCP.replace("shop/web", "shop/other")));
    stream.read_exact(&mut five).expect("what was said last");
    stream.write_all(b"again").expect("it is open");
    stream.read_exact(&mut five).expect("it is open still");

    lab.tell(&view::read(&GRANTED_TCP.replace("shop/client", "shop/other")));
    let mut rest = Vec::new();
    // Envoy ends it, with or without words.
    stream.read_to_end(&mut rest).ok();
    assert_eq!(rest, b"", "nothing but the end");
    assert_eq!(heard(&lab, "shop/client"), "");
    assert_eq!(heard(&lab, "shop/other"), "hello");
}

#[test]
fn a_client_hears_403_for_hosts_that_it_may_not_reach() {
    let server = Lab::start(&view::read(PERMISSIVE), HTTP);
    serve_http(server.application, HTTP);
    let client = |access: &str, service: &str| {
        view::read(&format!(
            "{{proxy: shop/client, access: {access}, http_ports: [8080], services: {{shop/{service}: {{addresses: \
             [{}], identities: [shop/web], ports: {{8080: {{protocol: http, endpoints: ['{}:8080']}}}}}}}}}}",
            address(),
            server.address
        ))
    };
    let lab = Lab::start(&client("permissive", "web"), HTTP);
    let mut stream = TcpStream::connect((lab.address, HTTP)).expect("a connection is taken");
    let mut ask = |host: &str| {
        request(&mut stream, &format!("GET /books HTTP/1.1\r\nhost: {host}")).expect("the connection stays open")
    };
    eventually(DEADLINE, || ask("web") == (200, "/books".to_owned()));
    assert_eq!((ask("web.shop.svc.cluster.local:8080").0, ask("elsewhere").0), (200, 404));
    lab.tell(&client("granted", "web"));
    eventually(DEADLINE, || {
        assert_eq!(ask("web").0, 200, "both modes allow it");
        ask("elsewhere").0 == 403
    });
    lab.tell(&client("granted", "new"));
    eventually(DEADLINE, || ask("web").0 == 403);
    assert!(ask("web").1.starts_with("no policy of the mesh"));
}

#[test]
fn with_egress_an_address_of_the_mesh_that_may_not_be_reached_answers_403() {
    let client = |closed: &str| {
        let text = "{proxy: shop/client, access: granted, egress: true, http_ports: [8080], closed: {8080: [ADDRESS]}}";
        view::read(&text.replace("ADDRESS", closed))
    };
    let lab = Lab::start(&client("10.96.0.7"), HTTP);
    lab.tell(&client(&lab.address.to_string()));
    let ask = || {
        let mut stream = TcpStream::connect((lab.address, HTTP)).expect("a connection is taken");
        request(&mut stream, "GET / HTTP/1.1\r\nhost: whatever.example").unwrap_or_default()
    };
    eventually(DEADLINE, || ask().0 == 403);
    assert!(ask().1.starts_with("no policy of the mesh"));
}
