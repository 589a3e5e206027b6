//! Bodies just within and far beyond the limit.

use hyper::Method;

use super::Setting;
use crate::harness::raw::{self, RawAnswer};

const LIMIT: usize = 256 << 10;
const AUTH_LIMIT: usize = 8 << 10;

fn limit(path: &str) -> usize {
    if path.starts_with("/api/auth/") { AUTH_LIMIT } else { LIMIT }
}

/// The body, padded with white space before its end.
fn padded(body: &str, size: usize) -> String {
    let body = body.strip_suffix('}').unwrap();
    format!("{body}{}}}", " ".repeat(size - body.len() - 1))
}

/// A request on a connection of its own, without `connection: close`.
async fn send(
    setting: &Setting,
    method: &Method,
    path: &str,
    headers: &str,
    body: &str,
) -> RawAnswer {
    let token = setting.user.token();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{headers}\r\n{body}"
    );
    raw::exchange(setting.server.address(), request.as_bytes()).await
}

fn chunked(body: &str, size: usize) -> String {
    let chunks = body
        .as_bytes()
        .chunks(size)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()));
    chunks.chain(["0\r\n\r\n".to_owned()]).collect()
}

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// The response is only complete once the connection is closed.
fn too_large(case: &str, answer: RawAnswer) {
    let answer = answer.expect_error(413, "body_too_large");
    assert_eq!(answer.header("connection"), Some("close"), "{case}");
}

#[tokio::test]
async fn a_body_may_have_exactly_the_limit() {
    let setting = Setting::new().await;
    for (method, path, body) in setting.readers() {
        let body = padded(&body, limit(&path));
        assert_eq!(body.len(), limit(&path));
        let answer = setting.send(&method, &path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
    }
    for (method, path, body) in setting.readers() {
        // The pair exists since a moment ago.
        if path == "/api/mappings" {
            continue;
        }
        let body = chunked(&padded(&body, limit(&path)), 1000);
        let headers = format!("{CHUNKED}connection: close\r\n");
        let answer = send(&setting, &method, &path, &headers, &body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_byte_more_is_too_large_and_ends_the_connection() {
    let setting = Setting::new().await;
    for (method, path, body) in setting.readers() {
        let case = format!("{method} {path}");
        let body = padded(&body, limit(&path) + 1);
        let length = format!("content-length: {}\r\n", body.len());
        too_large(&case, send(&setting, &method, &path, &length, &body).await);
        for size in [100, body.len()] {
            let body = chunked(&body, size);
            too_large(&case, send(&setting, &method, &path, CHUNKED, &body).await);
        }
    }
}

#[tokio::test]
async fn a_client_that_still_sends_gets_the_answer() {
    let setting = Setting::new().await;
    let body = "x".repeat(6 << 20);
    let length = format!("content-length: {}\r\n", body.len());
    for path in ["/api/patients", "/api/auth/register"] {
        too_large(path, send(&setting, &Method::POST, path, &length, &body).await);
        let body = chunked(&body, 64 << 10);
        too_large(path, send(&setting, &Method::POST, path, CHUNKED, &body).await);
    }
    // Also on routes that ignore the body.
    for (method, path, status, code) in [
        (Method::POST, "/api/x", 404, "not_found"),
        (Method::PATCH, "/api/patients", 405, "method_not_allowed"),
        (Method::POST, "/api/patients?x=1", 400, "bad_query"),
    ] {
        let headers = format!("{length}connection: close\r\n");
        let answer = send(&setting, &method, path, &headers, &body).await;
        answer.expect_error(status, code);
    }
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_not_asked_for() {
    let setting = Setting::new().await;
    let headers = "expect: 100-continue\r\ncontent-length: 10000000\r\n";
    // The first answer would be 100.
    too_large("expect", send(&setting, &Method::POST, "/api/patients", headers, "").await);
}

#[tokio::test]
async fn a_malformed_chunk_is_a_bad_request() {
    let setting = Setting::new().await;
    for body in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n"] {
        let headers = format!("{CHUNKED}connection: close\r\n");
        let answer = send(&setting, &Method::POST, "/api/patients", &headers, body).await;
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
    }
}
