//! Request ids, and too many or too large headers.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Setting, refused};
use crate::harness::raw;

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_visible_ascii_of_at_most_128_characters() {
    let setting = Setting::new().await;
    let longest = "x".repeat(128);
    for id in ["a", "7f3c-0001", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\", &longest] {
        let client = setting.user.with("x-request-id", id);
        assert_eq!(client.get("/api/auth/me").await.expect(200).header("x-request-id"), Some(id));
        // The client checks for every error that its body has the same id.
        assert_eq!(client.get("/x").await.expect(404).header("x-request-id"), Some(id));
        let anyone = setting.server.anyone().with("x-request-id", id);
        assert_eq!(anyone.get("/api/patients").await.header("x-request-id"), Some(id));
    }
    let too_long = "x".repeat(129);
    for id in ["", "a b", " ", "a\tb", &too_long] {
        let client = setting.user.with("x-request-id", id);
        let first = client.get("/api/auth/me").await.expect(200);
        let second = client.get("/x").await.expect(404);
        let (first, second) = (first.header("x-request-id"), second.header("x-request-id"));
        assert!(first != Some(id) && second != Some(id) && first != second, "{id:?}");
    }
}

#[tokio::test]
async fn a_request_id_that_is_no_ascii_is_replaced() {
    let setting = Setting::new().await;
    let request = "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: é\r\n\r\n";
    let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
    let answer = answer.expect_error(404, "not_found");
    let id = answer.header("x-request-id").unwrap();
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(answer.json()["request_id"], id);
}

#[tokio::test]
async fn headers_may_have_24_kib() {
    let setting = Setting::new().await;
    let padded = |bytes: usize| setting.user.with("x-padding", &"x".repeat(bytes));
    padded(23 << 10).get("/api/auth/me").await.expect(200);
    for bytes in [24 << 10, 30_000, 100_000] {
        let answer = padded(bytes).get("/api/auth/me").await;
        refused("padded", answer, 431, "headers_too_large");
    }
}

#[tokio::test]
async fn there_may_be_100_headers() {
    let setting = Setting::new().await;
    for (count, status) in [(100, 200), (101, 431), (1000, 431)] {
        // Two are there already.
        let more = (2..count).map(|number| format!("x-{number}: x\r\n"));
        let more = more.collect::<Vec<_>>().concat();
        let request =
            format!("GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
        let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
        assert_eq!(answer.status, status, "{count} headers: {answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused() {
    let setting = Setting::new().await;
    let request = format!("GET /health/live HTTP/1.1\r\nx: {}", "x".repeat(1 << 20));
    let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
    assert_eq!(answer.status, 431, "{answer:?}");
}

#[tokio::test]
async fn what_is_not_http_is_a_bare_400() {
    let setting = Setting::new().await;
    for request in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nbroken\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nna me: x\r\n\r\n",
        "POST /api/patients HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /api/patients HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let answer = raw::exchange(setting.server.address(), request.as_bytes()).await;
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
    }
}

/// The timeout only keeps a failing test from hanging.
#[tokio::test]
async fn half_a_request_does_not_hold_back_the_answer_before_it() {
    let setting = Setting::new().await;
    let mut socket = TcpStream::connect(setting.server.address()).await.unwrap();
    let request = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /health";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    let read = timeout(Duration::from_secs(20), socket.read_exact(&mut start)).await;
    assert!(read.is_ok(), "the first request is not answered");
    assert_eq!(&start, b"HTTP/1.1 200");
}
