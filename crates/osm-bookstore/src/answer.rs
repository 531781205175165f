//! The forms of answers: a page for people, JSON for programs, and a line for what went wrong.

use std::fmt::Write;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// A small page of counters that shows itself anew every second.
pub(crate) fn page(title: &str, rows: &[(String, String)]) -> Response<Full<Bytes>> {
    let title = escape(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"1\">\
         <title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<table>\n"
    );
    for (name, value) in rows {
        let (name, value) = (escape(name), escape(value));
        writeln!(html, "<tr><th align=\"left\">{name}</th><td>{value}</td></tr>").expect("a String takes any text");
    }
    html.push_str("</table>\n</body>\n</html>\n");
    with_type(StatusCode::OK, "text/html; charset=utf-8", html)
}

/// JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    let text = serde_json::to_string(value).expect("counters and names are always JSON");
    with_type(StatusCode::OK, "application/json", text + "\n")
}

/// One line of text.
pub(crate) fn line(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", format!("{message}\n"))
}

/// For a path that is served with another method.
pub(crate) fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = line(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// For a path that is not served; `served` lists those that are.
pub(crate) fn not_found(served: &str) -> Response<Full<Bytes>> {
    line(StatusCode::NOT_FOUND, &format!("not found; there is {served}"))
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
