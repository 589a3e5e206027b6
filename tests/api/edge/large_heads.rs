//! Heads of more than 8 KiB, for which there is little room.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::TestServer;
use crate::harness::socket::read_to_end;

/// How many large heads of one network there is room for.
const ROOM: usize = 8;

/// Sends all but the end of a large head, from another address of this machine.
async fn send_large_head(server: SocketAddr, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut socket = socket.connect(server).await.unwrap();
    let head = format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(20 << 10));
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn one_client_cannot_deny_large_heads_to_others() {
    let server = TestServer::start().await;
    let mut held = Vec::new();
    for _ in 0..2 * ROOM {
        held.push(send_large_head(server.address(), "127.0.0.2").await);
    }
    for from in ["127.0.0.1", "127.0.0.3"] {
        let mut socket = send_large_head(server.address(), from).await;
        socket.write_all(b"\r\n\r\n").await.unwrap();
        let answer = read_to_end(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{from}: {answer}");
    }
}

#[tokio::test]
async fn a_large_head_without_room_is_answered() {
    let server = TestServer::start().await;
    let mut sockets = Vec::new();
    for _ in 0..=ROOM {
        sockets.push(send_large_head(server.address(), "127.0.0.2").await);
    }
    let reading = sockets.iter_mut().map(read_to_end);
    let answers = futures_util::future::join_all(reading).await;
    // The others are closed for not being complete in time.
    let answers: Vec<_> = answers.into_iter().filter(|answer| !answer.is_empty()).collect();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"code\":\"overloaded\""), "{answer}");
}
