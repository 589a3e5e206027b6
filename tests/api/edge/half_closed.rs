//! Clients that half-close their connection (`shutdown(SHUT_WR)`) get the responses to their
//! complete requests.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::socket::{read_head, read_to_end, request, send};
use crate::harness::{Lock, TestServer};
use crate::lists::List;

/// Sends these bytes and closes the sending side.
async fn send_last(server: &TestServer, bytes: &str) -> TcpStream {
    let mut socket = send(server.address(), bytes).await;
    socket.shutdown().await.unwrap();
    socket
}

#[tokio::test]
async fn a_whole_request_is_answered() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let create = request("POST", "/api/patients", ada.token(), r#"{"name":"Grace"}"#);
    let answer = read_to_end(&mut send_last(&server, &create).await).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let list = request("GET", "/api/patients", ada.token(), "");
    let both = read_to_end(&mut send_last(&server, &format!("{create}{list}")).await).await;
    let answers: Vec<&str> =
        both.split("HTTP/1.1 ").map(|answer| answer.get(..3).unwrap_or("")).collect();
    assert_eq!(answers, ["", "201", "200"], "{both}");
    assert_eq!(both.matches(r#""name":"Grace""#).count(), 3, "{both}");
}

#[tokio::test]
async fn an_answer_that_takes_its_time_comes_too() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let id = ada.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    let target = format!("/api/patients/{id}");
    let lock = Lock::table(server.database().connect().await).await;
    let mut sockets = Vec::new();
    for (method, body) in [("GET", ""), ("HEAD", ""), ("PATCH", "{}")] {
        sockets.push(send_last(&server, &request(method, &target, ada.token(), body)).await);
    }
    lock.awaited_by(2).await;
    lock.release().await;
    for socket in &mut sockets {
        let answer = read_to_end(socket).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_list_in_parts_comes_whole() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let path = List::Patients.fill(&server, &ada, 5000).await;
    let mut socket = send_last(&server, &request("GET", &path, ada.token(), "")).await;
    let answer = read_to_end(&mut socket).await;
    assert!(answer.ends_with("]\r\n0\r\n\r\n"), "{}", answer.len());
    assert_eq!(answer.matches(r#""version":"#).count(), 5000);
}

#[tokio::test]
async fn a_request_that_is_not_whole_is_never_waited_for() {
    let server = TestServer::start().await;
    let ada = server.user().await;
    let whole = request("POST", "/api/patients", ada.token(), r#"{"name":"Grace"}"#);
    let chunked = whole.replace("content-length: 16", "transfer-encoding: chunked");
    let (chunked, _) = chunked.split_once('{').unwrap();
    for part in [&whole[..whole.len() - 1], &format!("{chunked}5\r\n{{\"nam")] {
        let answer = read_to_end(&mut send_last(&server, part).await).await;
        let answer = answer.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 400 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("the body ended early"), "{answer}");
    }
    for part in ["", "GE", &whole[..30]] {
        assert_eq!(read_to_end(&mut send_last(&server, part).await).await, "");
    }
    assert_eq!(ada.get("/api/patients").await.json(), json!([]));
}

#[tokio::test]
async fn between_two_requests_it_is_the_end() {
    let server = TestServer::start().await;
    let live = request("GET", "/health/live", "", "");
    let mut socket = send(server.address(), &live).await;
    read_head(&mut socket).await;
    let mut body = [0; 15];
    socket.read_exact(&mut body).await.unwrap();
    // An idle connection would be closed in 75 seconds.
    let started = Instant::now();
    socket.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut socket).await, "");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
