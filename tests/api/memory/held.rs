//! The resident memory of the program, and the effect of one user's share on others.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{LONG_TEXTS, add_large_patients, add_small_patients, ask, get, status};
use crate::harness::program::{Program, Workplace, database_url, with_database};
use crate::harness::{Client, TestDb, TestServer, until};
use crate::lists::ids;

/// The bound for 100 connections, in KiB: 32 each, and what the rest of the program takes
/// meanwhile.
const MARGIN: u64 = 100 * 32 + (6 << 10);

struct Scene {
    program: Program,
    database: TestDb,
    user: Client,
    _workplace: Workplace,
}

/// A warmed-up program and a user.
async fn scene() -> Scene {
    let (workplace, database) = (Workplace::new(), TestDb::new().await);
    let url = database_url(&database.config());
    let program = workplace.serve(&with_database(&url));
    let user = program.client().registered("ada@example.com").await;
    user.get("/api/patients").await.expect(200);
    user.post("/api/patients", &json!({"name": "Grace"})).await.expect(201);
    Scene { program, database, user, _workplace: workplace }
}

/// The peak resident memory within some seconds, in KiB.
async fn peak(program: &Program) -> u64 {
    let mut peak = 0;
    for _ in 0..30 {
        peak = peak.max(program.resident_kib());
        sleep(Duration::from_millis(100)).await;
    }
    peak
}

#[tokio::test]
async fn clients_that_do_not_read_are_bounded_together() {
    let scene = scene().await;
    let users: Vec<Client> = join_all((0..6).map(|n| {
        let client = scene.program.client();
        async move { client.registered(&format!("user-{n}@example.com")).await }
    }))
    .await;
    for (n, user) in users.iter().enumerate() {
        add_large_patients(&scene.database, user, 100, LONG_TEXTS[n % 2]).await;
    }
    let before = scene.program.resident_kib();
    let mut sockets = Vec::new();
    for n in 0..400 {
        let target = ["/api/patients?limit=100", "/api/patients", "/api/patients?search=1"][n % 3];
        let request = get(&users[n % users.len()], target);
        sockets.push(ask(scene.program.address(), &request).await);
    }
    let after = peak(&scene.program).await;
    // 12 MiB of bodies, 32 KiB per connection, and results of the database in transit.
    assert!(after < before + (12 + 13 + 20) * 1024, "{before} KiB have become {after}");
    drop(sockets);
    scene.program.stop();
}

#[tokio::test]
async fn large_rows_behind_many_small_ones_come_in_small_chunks() {
    let scene = scene().await;
    add_small_patients(&scene.database, &scene.user, 1500).await;
    add_large_patients(&scene.database, &scene.user, 600, LONG_TEXTS[0]).await;
    let before = scene.program.resident_kib();
    let mut socket = ask(scene.program.address(), &get(&scene.user, "/api/patients")).await;
    let (mut buffer, mut length, mut peak) = (vec![0; 256 << 10], 0, 0);
    loop {
        let read = socket.read(&mut buffer).await.unwrap();
        length += read;
        peak = peak.max(scene.program.resident_kib());
        if buffer[..read].ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    assert!(length > 600 * 68_000, "{length}");
    assert!(peak < before + (10 << 10), "{before} KiB have become {peak}");
    scene.program.stop();
}

#[tokio::test]
async fn many_lines_are_imported_and_exported_in_little_memory() {
    let scene = scene().await;
    let line = json!({"name": "Grace", "notes": "n".repeat(4000)}).to_string() + "\n";
    let (lines, token) = (8000, scene.user.token());
    let head = format!(
        "POST /api/patients/import HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        lines * line.len()
    );
    let before = scene.program.resident_kib();
    let mut socket = ask(scene.program.address(), &head).await;
    let (mut peak, part) = (0, line.repeat(100));
    for _ in 0..lines / 100 {
        socket.write_all(part.as_bytes()).await.unwrap();
        peak = peak.max(scene.program.resident_kib());
    }
    assert_eq!(status(&mut socket).await, 200);
    let mut socket = ask(scene.program.address(), &get(&scene.user, "/api/patients/export")).await;
    let (mut buffer, mut length) = (vec![0; 256 << 10], 0);
    loop {
        let read = socket.read(&mut buffer).await.unwrap();
        length += read;
        peak = peak.max(scene.program.resident_kib());
        if buffer[..read].ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    assert!(length > lines * line.len(), "{length}");
    assert!(peak < before + (8 << 10), "{before} KiB have become {peak}");
    scene.program.stop();
}

#[tokio::test]
async fn a_connection_keeps_little_of_what_it_once_had() {
    let scene = scene().await;
    add_large_patients(&scene.database, &scene.user, 1, LONG_TEXTS[0]).await;
    let large = ids(&scene.user.get("/api/patients").await.expect(200))[1];
    let token = scene.user.token();
    let body = format!(
        "POST /api/patients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n[{}]",
        250 << 10,
        " ".repeat((250 << 10) - 2)
    );
    let answer = get(&scene.user, &format!("/api/patients/{large}"));
    for (what, request, expected) in [("body", body, 422), ("answer", answer, 200)] {
        let before = scene.program.resident_kib();
        let mut sockets = Vec::new();
        for _ in 0..100 {
            let mut socket = ask(scene.program.address(), &request).await;
            assert_eq!(status(&mut socket).await, expected);
            let mut rest = vec![0; 128 << 10];
            // The response ends with its body.
            let mut read = 0;
            while !rest[..read].ends_with(b"}") {
                read = socket.read(&mut rest).await.unwrap();
            }
            sockets.push(socket);
        }
        let after = scene.program.resident_kib();
        assert!(after < before + MARGIN, "{what}: {before} KiB have become {after}");
        // All connections are still usable.
        for socket in &mut sockets {
            socket.write_all(get(&scene.user, "/api/auth/me").as_bytes()).await.unwrap();
            assert_eq!(status(socket).await, 200);
        }
    }
    scene.program.stop();
}

#[tokio::test]
async fn an_unfinished_head_keeps_little() {
    let scene = scene().await;
    for size in [7 << 10, 23 << 10, 100 << 10] {
        let head = format!("GET /health/live HTTP/1.1\r\nx: {}", "y".repeat(size));
        let before = scene.program.resident_kib();
        let mut sockets = Vec::new();
        for _ in 0..100 {
            sockets.push(ask(scene.program.address(), &head).await);
        }
        let after = peak(&scene.program).await;
        assert!(after < before + MARGIN, "{size} bytes: {before} KiB have become {after}");
    }
    // Complete heads of this size get a response, and the connection is closed with its buffer.
    let long = "y".repeat(20 << 10);
    let answer = scene.program.client().with("x-long", &long).get("/health/live").await.expect(200);
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = scene.program.client().with("x", &long[..6000]).get("/health/live").await;
    assert_eq!(answer.expect(200).header("connection"), None);
    scene.program.stop();
}

#[tokio::test]
async fn a_user_who_does_not_read_stops_nobody_else() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    for user in [&ada, &eve] {
        add_large_patients(server.database(), user, 200, LONG_TEXTS[0]).await;
    }
    let large = format!("/api/patients/{}", ids(&ada.get("/api/patients").await.expect(200))[0]);
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(ask(server.address(), &get(&ada, "/api/patients")).await);
    }
    // The kernel's socket buffers are not counted, so it takes a while.
    let refused = until("there is no room", async || {
        let answer = ada.get(&large).await;
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.await.expect_error(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Small responses are not counted.
    ada.get("/api/auth/me").await.expect(200);
    let all = ids(&eve.get("/api/patients").await.expect(200));
    assert_eq!(all.len(), 200);
    eve.patch(&format!("/api/patients/{}", all[0]), &json!({"age": 1})).await.expect(200);

    drop(held);
    until("there is room again", async || (ada.get(&large).await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn pages_that_wait_for_room_do_not_wait_for_each_other() {
    let server = TestServer::start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let user = server.user().await;
        add_large_patients(server.database(), &user, 200, LONG_TEXTS[0]).await;
        let all = ids(&user.get("/api/patients").await.expect(200));
        for _ in 0..40 {
            held.push(ask(server.address(), &get(&user, "/api/patients")).await);
        }
        until("there is no room", async || {
            let large = user.get(&format!("/api/patients/{}", all[0])).await;
            (large.status != 200).then_some(())
        })
        .await;
    }
    let user = server.user().await;
    add_small_patients(server.database(), &user, 1500).await;
    let pages = join_all((0..28).map(async |_| {
        let page = until("there is room for a page", async || {
            let page = user.get("/api/patients?limit=1000").await;
            (page.status == 200).then_some(page)
        });
        assert_eq!(ids(&page.await).len(), 1000);
    }));
    // If they do, it takes until the first of them give up, after 30 s.
    timeout(Duration::from_secs(25), pages).await.unwrap();
}

#[tokio::test]
async fn a_list_goes_on_when_its_client_does() {
    let server = TestServer::start().await;
    let user = server.user().await;
    add_large_patients(server.database(), &user, 200, LONG_TEXTS[1]).await;
    // Together they exceed the user's allowance, and each is eventually read to its end.
    let request = get(&user, "/api/patients").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(ask(server.address(), &request).await);
    }
    sleep(Duration::from_millis(300)).await;
    let lengths = join_all(sockets.into_iter().map(async |mut socket| {
        let (mut buffer, mut length, mut last) = (vec![0; 64 << 10], 0, Vec::new());
        loop {
            let read = socket.read(&mut buffer).await.unwrap();
            if read == 0 {
                assert!(last.ends_with(b"]\r\n0\r\n\r\n"), "a list broke off");
                return length;
            }
            length += read;
            last.extend_from_slice(&buffer[..read]);
            last.drain(..last.len().saturating_sub(16));
        }
    }))
    .await;
    assert!(lengths.iter().all(|length| *length > 200 * 90_000), "{lengths:?}");
}
