//! Raw bytes, for requests that no proper client would send.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::description;
use super::wait::PATIENCE;

/// A raw response, up to the end of the connection.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

/// Sends all bytes, then reads until the server closes. Sending may fail, because the server may
/// respond and close before it has read everything; the response must still arrive.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> RawAnswer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let _ = socket.write_all(request).await;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    let answer = RawAnswer::parse(&bytes);
    answer.check();
    answer
}

/// Sends all bytes, then reads every response until the server closes or resets the connection.
pub async fn converse(address: SocketAddr, requests: &[u8]) -> Vec<RawAnswer> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let mut bytes = Vec::new();
    // Concurrently, because the server stops reading from a client that does not read.
    let write = async {
        let _ = writer.write_all(requests).await;
    };
    let read = async {
        let _ = timeout(PATIENCE, reader.read_to_end(&mut bytes)).await.unwrap();
    };
    tokio::join!(write, read);
    let mut answers = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let mut answer = RawAnswer::parse(rest);
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let end = rest.len() - answer.body.len() + length;
        answer.body.truncate(length);
        answer.check();
        answers.push(answer);
        rest = &rest[end..];
    }
    answers
}

impl RawAnswer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// An error is as the API's description says.
    fn check(&self) {
        if self.header("content-type") == Some("application/problem+json") {
            assert_eq!(description::check_problem(&self.body), Ok(()), "{self:?}");
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The response, which must be this error.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["code"], code, "{self:?}");
        self
    }
}
