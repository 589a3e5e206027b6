#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::advance;

use super::*;
use crate::http::budget::{Budget, Holder};

/// Room for one large head.
fn room() -> Allowance {
    Arc::new(Budget::new(4 * LARGE_HEAD)).allowance(Holder::Anyone)
}

#[tokio::test(start_paused = true)]
async fn a_head_has_five_seconds_however_slowly_its_bytes_arrive() {
    let (mut client, server) = duplex(64);
    let mut socket = Socket::new(server, Arc::new(Phase::new(Arc::default())), room());
    let reading = tokio::spawn(async move {
        loop {
            if let Err(error) = socket.read_exact(&mut [0]).await {
                return error.kind();
            }
        }
    });
    let started = Instant::now();
    while !reading.is_finished() {
        let _ = client.write_all(b"x").await;
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(reading.await.unwrap(), io::ErrorKind::TimedOut);
    assert!(started.elapsed() <= Duration::from_secs(7), "{:?}", started.elapsed());
}

/// A socket whose client has sent this many bytes of a head.
async fn with_head(bytes: usize, room: &Allowance) -> (DuplexStream, Socket<DuplexStream>) {
    let (mut client, server) = duplex(64 << 10);
    client.write_all(&vec![b'x'; bytes]).await.unwrap();
    (client, Socket::new(server, Arc::new(Phase::new(Arc::default())), room.clone()))
}

#[tokio::test(start_paused = true)]
async fn no_read_fills_the_initial_buffer_of_hyper() {
    let (_client, mut socket) = with_head(32 << 10, &room()).await;
    let mut buffer = vec![0; 32 << 10];
    assert_eq!(socket.read(&mut buffer).await.unwrap(), MAX_READ);
}

#[tokio::test(start_paused = true)]
async fn a_large_head_waits_for_room_and_is_refused_after_a_while() {
    let room = room();
    let mut buffer = vec![0; 20_000];
    let (_one, mut first) = with_head(20_000, &room).await;
    first.read_exact(&mut buffer).await.unwrap();
    assert!(first.phase.had_large_head());
    let (_two, mut second) = with_head(20_000, &room).await;
    let refused = second.read_exact(&mut buffer).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    assert!(second.phase.refused_large_head());
    assert!(!second.phase.had_large_head());
    drop(second);

    let (_three, mut third) = with_head(20_000, &room).await;
    let reading = tokio::spawn(async move { third.read_exact(&mut buffer).await.map(drop) });
    tokio::task::yield_now().await;
    drop(first);
    reading.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_byte_now_and_then_is_given_up() {
    let (mut client, server) = duplex(1);
    let mut socket = Socket::new(server, Arc::new(Phase::new(Arc::default())), room());
    let started = Instant::now();
    let writing = tokio::spawn(async move { socket.write_all(&vec![b'x'; MIN_WRITTEN]).await });
    while !writing.is_finished() {
        let _ = client.read(&mut [0]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(started.elapsed() <= WRITE_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_but_on_and_on_gets_all() {
    let (mut client, server) = duplex(1024);
    let mut socket = Socket::new(server, Arc::new(Phase::new(Arc::default())), room());
    let writing = tokio::spawn(async move { socket.write_all(&vec![b'x'; 4 * MIN_WRITTEN]).await });
    let mut buffer = [0; MIN_WRITTEN / 20];
    while !writing.is_finished() {
        let _ = client.read_exact(&mut buffer).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_cut_off_ends_with_a_complete_head_and_loses_no_byte() {
    let (mut client, server) = duplex(64 << 10);
    let mut socket = Socket::new(server, Arc::new(Phase::new(Arc::default())), room());
    let heads = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    client.write_all(heads.as_bytes()).await.unwrap();
    drop(client);
    let (mut buffer, mut all) = (vec![0; 8 << 10], Vec::new());
    loop {
        // Each head is a request.
        socket.phase.begin();
        socket.phase.end();
        let read = socket.read(&mut buffer).await.unwrap();
        all.extend_from_slice(&buffer[..read]);
        if read == 0 {
            break;
        }
        assert!(all.ends_with(HEAD_END));
    }
    assert!(all == heads.as_bytes());
}
