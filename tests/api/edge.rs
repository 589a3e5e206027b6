//! The HTTP edge, where nothing is wrong with a request: timeouts, limits on connections, clients
//! that close their side, and CORS. Requests that are wrong are in `bad_input` and `attacks`.

mod cors;
mod half_closed;
mod large_heads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::raw::converse;
use crate::harness::socket::{read_head, read_to_end, request, send};
use crate::harness::{TestDb, TestServer, until};

const HEAD: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\nx-padding: a long way to go\r\n\r\n";
const ALIVE: &str = "HTTP/1.1 200 ";

/// The tolerance of timeouts: about a second on an idle machine, more on a busy one.
#[track_caller]
fn took(what: &str, since: Instant, seconds: u64) {
    // A server's clock starts after its client's, but ticks in milliseconds.
    let (taken, least) = (since.elapsed(), Duration::from_millis(seconds * 1000 - 50));
    assert!(taken >= least, "{what}: already after {taken:?}");
    assert!(taken < least + Duration::from_secs(15), "{what}: only after {taken:?}");
}

/// Writes in pieces with pauses until the server stops reading, and reads to the end.
async fn trickle(address: SocketAddr, pieces: Vec<String>, pause: Duration) -> String {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            if writer.write_all(piece.as_bytes()).await.is_err() {
                break;
            }
            sleep(pause).await;
        }
        // An open sending side does not end the connection.
        sleep(Duration::from_secs(120)).await;
    });
    let mut answer = Vec::new();
    // Writing to a connection that has ended may reset it.
    let _ = reader.read_to_end(&mut answer).await;
    writing.abort();
    String::from_utf8(answer).unwrap()
}

fn letters(text: &str) -> Vec<String> {
    text.chars().map(String::from).collect()
}

async fn silent(address: SocketAddr) {
    let since = Instant::now();
    assert_eq!(trickle(address, Vec::new(), Duration::ZERO).await, "");
    took("a connection that says nothing", since, 5);
}

async fn slow_head(address: SocketAddr) {
    let since = Instant::now();
    assert_eq!(trickle(address, letters(HEAD), Duration::from_millis(500)).await, "");
    took("a head that comes slowly", since, 5);
}

async fn slow_second_head(address: SocketAddr) {
    let pieces = [vec![HEAD.to_owned()], letters(HEAD)].concat();
    let since = Instant::now();
    let answers = trickle(address, pieces, Duration::from_millis(500)).await;
    assert_eq!(answers.matches(ALIVE).count(), 1, "{answers}");
    took("a second head that comes slowly", since, 5);
}

async fn late_head(address: SocketAddr) {
    // Silence, then a head in parts: each within its timeout, together beyond either.
    let mut socket = TcpStream::connect(address).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let (first, second) = HEAD.split_at(20);
    socket.write_all(first.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    socket.write_all(second.as_bytes()).await.unwrap();
    assert!(read_head(&mut socket).await.starts_with(ALIVE));
}

/// A body that is sent in parts, one a second.
fn body_in_parts(token: &str, seconds: usize) -> Vec<String> {
    let name = "x".repeat(2 * seconds);
    let whole = request("POST", "/api/patients", token, &json!({"name": name}).to_string());
    let (head, body) = whole.split_at(whole.find("\r\n\r\n").unwrap() + 4);
    let parts = body.as_bytes().chunks(body.len().div_ceil(seconds));
    let parts = parts.map(|part| String::from_utf8(part.to_vec()).unwrap());
    [head.to_owned()].into_iter().chain(parts).collect()
}

#[track_caller]
fn timed_out(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

async fn slow_body(address: SocketAddr, token: &str) {
    let since = Instant::now();
    timed_out(&trickle(address, body_in_parts(token, 60), Duration::from_secs(1)).await);
    took("a body that trickles", since, 10);
}

async fn paused_body(address: SocketAddr, token: &str) {
    let parts = body_in_parts(token, 4);
    let since = Instant::now();
    timed_out(&trickle(address, parts[..2].to_vec(), Duration::ZERO).await);
    took("a body that pauses", since, 5);
}

async fn paused_chunks(address: SocketAddr, token: &str) {
    let head = format!(
        "POST /api/patients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{{\"n\r\n"
    );
    let since = Instant::now();
    timed_out(&trickle(address, vec![head], Duration::ZERO).await);
    took("chunks that pause", since, 5);
}

async fn leisurely_body(address: SocketAddr, token: &str) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for part in body_in_parts(token, 3) {
        socket.write_all(part.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(2)).await;
    }
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 201 "));
}

async fn idle(address: SocketAddr) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = HEAD.replace("GET", "HEAD");
    for pause in [8, 8, 0] {
        socket.write_all(head.as_bytes()).await.unwrap();
        assert!(read_head(&mut socket).await.starts_with(ALIVE));
        sleep(Duration::from_secs(pause)).await;
    }
}

#[tokio::test]
async fn a_client_may_take_its_time_but_not_the_services() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let (address, token) = (server.address(), user.token());
    tokio::join!(
        silent(address),
        slow_head(address),
        slow_second_head(address),
        late_head(address),
        slow_body(address, token),
        paused_body(address, token),
        paused_chunks(address, token),
        leisurely_body(address, token),
        idle(address),
    );
    // Only the slow body within the limits was accepted.
    assert_eq!(user.get("/api/patients").await.json().as_array().unwrap().len(), 1);
}

/// A server with one permitted connection, and a client whose list exceeds the socket buffers.
async fn server_with_a_long_list() -> (TestServer, String) {
    let database = Arc::new(TestDb::new().await);
    let server = TestServer::start_with(database, &[("MAX_CONNECTIONS", "1")]).await;
    let user = server.user().await;
    let sql = "INSERT INTO patients (created_by, name, notes, allergies)
        SELECT users.id, 'Patient ' || n, repeat('n', 5000), repeat('a', 5000)
        FROM users, generate_series(1, 5000) AS n";
    server.database().connect().await.batch_execute(sql).await.unwrap();
    (server, request("GET", "/api/patients", user.token(), ""))
}

/// Requests the list once no earlier connection is left, and reads the head of the response.
async fn begin(server: &TestServer, list: &str) -> (Instant, TcpStream) {
    until("the list begins", async || {
        let since = Instant::now();
        let mut socket = send(server.address(), list).await;
        read_head(&mut socket).await.starts_with(ALIVE).then_some((since, socket))
    })
    .await
}

/// Whether another connection is served.
async fn is_served(server: &TestServer) -> bool {
    let request = HEAD.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let answers = converse(server.address(), request.as_bytes()).await;
    match answers.first().map(|answer| answer.status) {
        Some(200) => true,
        Some(503) => false,
        other => panic!("{other:?}"),
    }
}

/// Waits until no earlier connection is left.
async fn free(server: &TestServer) {
    until("a connection is served", async || is_served(server).await.then_some(())).await;
}

async fn unread_answer() {
    let (server, list) = server_with_a_long_list().await;
    let (since, mut socket) = begin(&server, &list).await;
    assert!(!is_served(&server).await, "the only connection is in use");
    free(&server).await;
    took("an answer that nobody reads", since, 30);
    // The buffered part still arrives, but not the last chunk that would make it look complete.
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"]\r\n0\r\n\r\n"));
}

async fn slowly_read_answer() {
    let (server, list) = server_with_a_long_list().await;
    let (_, mut socket) = begin(&server, &list).await;
    let (mut length, mut part) = (0, vec![0; 8 << 20]);
    for _ in 0..3 {
        sleep(Duration::from_secs(12)).await;
        length += socket.read_exact(&mut part).await.unwrap();
    }
    let mut rest = Vec::new();
    let mut piece = [0; 8 << 10];
    while !rest.ends_with(b"0\r\n\r\n") {
        let read = socket.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "the list breaks off");
        rest.extend_from_slice(&piece[..read]);
    }
    assert!(length + rest.len() > 50_000_000, "{length}");
}

#[tokio::test]
async fn an_answer_that_is_not_read_for_half_a_minute_ends_its_connection() {
    tokio::join!(unread_answer(), slowly_read_answer());
}

#[tokio::test]
async fn a_connection_too_many_is_refused_and_the_others_go_on() {
    let database = Arc::new(TestDb::new().await);
    let server = TestServer::start_with(database, &[("MAX_CONNECTIONS", "3")]).await;
    let head = HEAD.replace("GET", "HEAD");
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = send(server.address(), &head).await;
        assert!(read_head(&mut socket).await.starts_with(ALIVE));
        sockets.push(socket);
    }
    for _ in 0..50 {
        let answers = converse(server.address(), HEAD.as_bytes()).await;
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(answer.status, 503, "{answer:?}");
        for (name, value) in [
            ("retry-after", "1"),
            ("connection", "close"),
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        let problem = answer.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!("overloaded"), &json!(503)));
        assert_eq!(answer.header("x-request-id"), problem["request_id"].as_str());
    }
    // Many clients take a response that precedes their request for an error.
    for _ in 0..50 {
        server.anyone().get("/health/live").await.expect_error(503, "overloaded");
    }
    // A client that sends nothing gets it as well.
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    assert!(read_to_end(&mut silent).await.starts_with("HTTP/1.1 503 "));

    for socket in &mut sockets {
        socket.write_all(head.as_bytes()).await.unwrap();
        assert!(read_head(socket).await.starts_with(ALIVE));
    }
    sockets.pop();
    free(&server).await;
}

#[tokio::test]
async fn who_is_answered_before_the_body_has_come_is_told_that_the_connection_closes() {
    let server = TestServer::start().await;
    let whole = request("POST", "/api/patients", "no token", r#"{"name":"Grace"}"#);
    let (head, _) = whole.split_once("\r\n\r\n").unwrap();
    for _ in 0..20 {
        let mut socket = send(server.address(), &format!("{head}\r\n\r\n")).await;
        let answer = read_to_end(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}
