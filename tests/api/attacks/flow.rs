//! Pipelined requests, many connections at once, and `Expect: 100-continue`.

use std::fmt::Write;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{MARGIN, serve};
use crate::harness::program::Workplace;
use crate::harness::raw::converse;
use crate::harness::socket::{read_head, read_to_end, send};
use crate::harness::{TestDb, TestServer, until};

#[tokio::test]
async fn a_thousand_pipelined_requests_are_all_answered_in_order() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
    let (token, mut requests) = (user.token(), String::new());
    for number in 0..1000 {
        let (target, token) = match number % 4 {
            0 => ("/health/live".to_owned(), ""),
            1 => (format!("/api/patients/{patient}"), token),
            2 => ("/nowhere".to_owned(), token),
            _ => ("/api/patients".to_owned(), "wrong"),
        };
        let close = if number == 999 { "connection: close\r\n" } else { "" };
        write!(
            requests,
            "GET {target} HTTP/1.1\r\nhost: x\r\nx-request-id: {number}\r\n\
             authorization: Bearer {token}\r\n{close}\r\n"
        )
        .unwrap();
    }
    let answers = converse(server.address(), requests.as_bytes()).await;
    assert_eq!(answers.len(), 1000);
    for (number, answer) in answers.iter().enumerate() {
        let id = number.to_string();
        assert_eq!(answer.header("x-request-id"), Some(&*id), "{answer:?}");
        assert_eq!(answer.status, [200, 200, 404, 401][number % 4], "{number}: {answer:?}");
    }
}

#[tokio::test]
async fn pipelined_writes_happen_in_order() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let patient = user.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
    let mut requests = String::new();
    for age in 0..=100 {
        let body = json!({"age": age}).to_string();
        let close = if age == 100 { "connection: close\r\n" } else { "" };
        write!(
            requests,
            "PATCH /api/patients/{patient} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{close}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            user.token(),
            body.len()
        )
        .unwrap();
    }
    let answers = converse(server.address(), requests.as_bytes()).await;
    let ages: Vec<_> = answers.iter().map(|answer| answer.json()["age"].clone()).collect();
    assert_eq!(ages, (0..=100).map(|age| json!(age)).collect::<Vec<_>>());
}

/// The head of a request whose client waits for 100 Continue.
fn waiting(line: &str, token: &str, headers: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         expect: 100-continue\r\n{headers}\r\n"
    )
}

const JSON_TYPE: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_body_that_would_be_refused_is_not_asked_for() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let length = format!("{JSON_TYPE}content-length: 14\r\n");
    let chunked = format!("{JSON_TYPE}transfer-encoding: chunked\r\n");
    for (line, token, headers, status) in [
        ("POST /nowhere", user.token(), &*length, 404),
        ("DELETE /api/patients", user.token(), &length, 405),
        ("POST /api/patients", "wrong", &length, 401),
        ("POST /api/patients", "wrong", &chunked, 401),
        ("POST /api/patients?x=1", user.token(), &length, 400),
        ("POST /api/patients", user.token(), "content-length: 14\r\n", 415),
        ("POST /api/patients", user.token(), &format!("{length}content-encoding: gzip\r\n"), 415),
        (
            "POST /api/patients",
            user.token(),
            &format!("{JSON_TYPE}content-length: 262145\r\n"),
            413,
        ),
        ("POST /api/auth/login", "", &format!("{JSON_TYPE}content-length: 8193\r\n"), 413),
        ("GET /health/live", "", &length, 200),
    ] {
        let answers = converse(server.address(), waiting(line, token, headers).as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{line} {headers}");
    }
}

#[tokio::test]
async fn a_body_that_is_wanted_is_asked_for() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let body = r#"{"name":"P"}"#;
    for (headers, body) in [
        (format!("content-length: {}\r\n", body.len()), body.to_owned()),
        ("transfer-encoding: chunked\r\n".to_owned(), format!("c\r\n{body}\r\n0\r\n\r\n")),
    ] {
        let headers = format!("{JSON_TYPE}{headers}connection: close\r\n");
        let head = waiting("POST /api/patients", user.token(), &headers);
        let mut socket = send(server.address(), &head).await;
        assert_eq!(read_head(&mut socket).await, "HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(body.as_bytes()).await.unwrap();
        assert!(read_to_end(&mut socket).await.starts_with("HTTP/1.1 201 "));
    }
}

#[tokio::test]
async fn a_flood_of_large_heads_and_bodies_gives_its_memory_back() {
    let (workplace, database) = (Workplace::new(), TestDb::new().await);
    let program = serve(&workplace, &database).await;
    let user = program.client().registered("ada@example.com").await;
    let before = program.resident_kib();
    let endless = format!("GET /health/live HTTP/1.1\r\nx: {}", "y".repeat(100 << 10));
    let body = super::request("POST", "/api/patients", user.token(), "", &vec![b' '; 256 << 10]);
    let mut sockets = Vec::new();
    for _ in 0..150 {
        sockets.push(send(program.address(), &endless).await);
        // All but the last byte, so that the service must hold the rest.
        let body = std::str::from_utf8(&body[..body.len() - 1]).unwrap();
        sockets.push(send(program.address(), body).await);
    }
    let held = program.resident_kib();
    drop(sockets);
    // The service notices asynchronously that the clients have disconnected.
    until(&format!("{held} KiB become {before} again"), async || {
        program.client().get("/health/live").await.expect(200);
        // Refused until the service notices that the user's bodies will not arrive.
        let listed = user.get("/api/patients").await.status == 200;
        (listed && program.resident_kib() < before + MARGIN).then_some(())
    })
    .await;
    program.stop();
}
