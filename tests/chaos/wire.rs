//! A client of one connection that knows what it has sent and what became of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    Answered(Reply),
    /// There was no connection, so nothing was sent.
    NotSent,
    /// It was sent, perhaps in part, and the connection ended without a whole answer.
    Broken(#[expect(dead_code, reason = "for the messages of failed assertions")] io::ErrorKind),
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// The connection ends with this answer.
    pub closes: bool,
    pub body: Vec<u8>,
}

impl Reply {
    /// The code of a problem.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection that is opened when it is needed.
pub struct Wire {
    address: SocketAddr,
    socket: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, socket: None, buffer: Vec::new() }
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Outcome {
        if !self.connect().await {
            return Outcome::NotSent;
        }
        let exchange = timeout(PATIENCE, self.exchange(request)).await;
        let outcome = exchange.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match outcome {
            Ok(reply) => {
                if reply.closes {
                    self.socket = None;
                }
                Outcome::Answered(reply)
            }
            Err(error) => {
                self.socket = None;
                Outcome::Broken(error.kind())
            }
        }
    }

    /// Whether there is a connection now.
    pub async fn connect(&mut self) -> bool {
        if self.socket.is_none() {
            self.buffer.clear();
            let connecting = timeout(PATIENCE, TcpStream::connect(self.address)).await;
            self.socket = connecting.ok().and_then(Result::ok);
            if let Some(socket) = &self.socket {
                socket.set_nodelay(true).unwrap();
            }
        }
        self.socket.is_some()
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        let socket = self.socket.as_mut().unwrap();
        socket.write_all(request).await?;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            read_more(socket, &mut self.buffer).await?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = std::str::from_utf8(&head).unwrap();
        let (status, closes) =
            (head[9..12].parse().unwrap(), value(head, "connection") == Some("close"));
        let mut body = Vec::new();
        if value(head, "transfer-encoding") == Some("chunked") {
            loop {
                let size = self.take_line().await?;
                let size = usize::from_str_radix(&size, 16).unwrap();
                body.extend(self.take(size).await?);
                self.take_line().await?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = value(head, "content-length") {
            body = self.take(length.parse().unwrap()).await?;
        }
        Ok(Reply { status, closes, body })
    }

    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            read_more(self.socket.as_mut().unwrap(), &mut self.buffer).await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.take(at + 2).await?;
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            read_more(self.socket.as_mut().unwrap(), &mut self.buffer).await?;
        }
    }
}

async fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match socket.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The value of a header.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The bytes of a request, with a key where it is repeated until it is answered.
pub fn request(method: &str, target: &str, token: &str, body: &str, key: Option<&str>) -> Vec<u8> {
    let length = body.len();
    let key = key.map_or_else(String::new, |key| format!("idempotency-key: {key}\r\n"));
    format!(
        "{method} {target} HTTP/1.1\r\nhost: chaos\r\nauthorization: Bearer {token}\r\n{key}\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
