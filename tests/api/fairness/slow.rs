//! Users whose connections send and read slowly take no room that others need.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::socket::send;
use crate::harness::{Client, TestServer};
use crate::lists::ids;
use crate::memory::{LONG_TEXTS, add_large_patients, ask, get};

/// How long the slow connections are kept, which is less than any of their timeouts.
const WHILE: Duration = Duration::from_secs(8);

/// Sends the head of a body of this length, and then a byte now and then.
async fn send_slowly(server: &TestServer, user: &Client, length: usize) -> TcpStream {
    let head = format!(
        "POST /api/patients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{{",
        user.token()
    );
    send(server.address(), &head).await
}

/// Opens a user's slow connections.
async fn slow_connections(server: &TestServer, user: &Client, tasks: &mut JoinSet<()>) {
    for number in 0..22 {
        let length = if number < 6 { 256_000 } else { 4_200 };
        let mut socket = send_slowly(server, user, length).await;
        tasks.spawn(async move {
            while socket.write_all(b" ").await.is_ok() {
                sleep(Duration::from_secs(3)).await;
            }
        });
    }
    for _ in 0..6 {
        let mut socket = ask(server.address(), &get(user, "/api/patients")).await;
        tasks.spawn(async move {
            while matches!(socket.read(&mut [0]).await, Ok(1)) {
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
}

#[tokio::test]
async fn accounts_with_slow_connections_hold_up_nobody_else() {
    // 20 of the same address.
    for accounts in [4, 20] {
        let server = TestServer::start().await;
        let user = server.user().await;
        add_large_patients(server.database(), &user, 6, LONG_TEXTS[0]).await;
        let large = format!("/api/patients/{}", ids(&user.get("/api/patients").await)[1]);
        let long = LONG_TEXTS[0].repeat(5000);
        let patient = json!({"name": "Grace", "notes": long, "allergies": long});
        // White space behind a JSON value is part of the body.
        let patient = patient.to_string() + &" ".repeat(60_000);
        assert!(patient.len() > 100_000);

        let mut tasks = JoinSet::new();
        let slow = join_all((0..accounts).map(|_| server.user())).await;
        for slow in &slow {
            add_large_patients(server.database(), slow, 60, LONG_TEXTS[1]).await;
            slow_connections(&server, slow, &mut tasks).await;
        }
        let started = Instant::now();
        while started.elapsed() < WHILE {
            user.get("/api/patients").await.expect(200);
            user.get(&large).await.expect(200);
            let body = Some(patient.clone().into());
            let made = user.send(hyper::Method::POST, "/api/patients", body).await.expect(201);
            user.delete(&format!("/api/patients/{}", made.id())).await.expect(204);
            sleep(Duration::from_millis(200)).await;
        }
        tasks.shutdown().await;
    }
}
