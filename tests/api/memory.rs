//! Memory held for clients is bounded, whatever they request and however slowly they read.

mod held;
mod whole;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Client, TestDb};

/// The longest texts of a patient: in the database, and as JSON.
pub const LONG_TEXTS: [&str; 2] = ["\u{1f600}", "\u{1}"];

/// Adds patients of a user: those with an even number have no long texts, the others the longest
/// possible.
const SQL_LARGE: &str =
    "INSERT INTO patients (created_by, name, notes, allergies, medical_history, metadata)
    SELECT $1, n::text, long, long, long, json_build_object('a', repeat('m', 8000))
    FROM generate_series(1, $2::bigint) AS n, (SELECT repeat($3::text, 5000) AS long) AS texts";

pub async fn add_large_patients(database: &TestDb, user: &Client, rows: i64, text: &str) {
    let owner = user.user_id().await;
    let database = database.connect().await;
    database.execute(SQL_LARGE, &[&owner, &rows, &text]).await.unwrap();
}

async fn add_small_patients(database: &TestDb, user: &Client, rows: i64) {
    let owner = user.user_id().await;
    let sql = "INSERT INTO patients (created_by, name)
        SELECT $1, n::text FROM generate_series(1, $2::bigint) AS n";
    database.connect().await.execute(sql, &[&owner, &rows]).await.unwrap();
}

pub fn get(user: &Client, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", user.token())
}

/// Sends a request on a connection with the smallest receive buffer.
pub async fn ask(address: SocketAddr, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The status of the next response.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line).strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}
