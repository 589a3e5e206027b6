//! A client with one connection that does as little as possible: its share of the time is the same
//! for all servers.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER: usize = 64 << 10;

pub struct Client {
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, answer: Vec::with_capacity(BUFFER) }
    }

    /// Sends a request and reads the whole response, which must be a success.
    pub async fn ask(&mut self, request: &[u8]) {
        self.socket.write_all(request).await.unwrap();
        self.answer.clear();
        let mut length = None;
        while length.is_none_or(|length| self.answer.len() < length) {
            let read = self.socket.read_buf(&mut self.answer).await.unwrap();
            assert!(read > 0, "the server has closed the connection");
            length = length.or_else(|| whole_length(&self.answer));
        }
        let answer = &self.answer;
        assert!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(answer));
    }
}

/// The length of head and body, once the head is complete.
fn whole_length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let line = answer[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    let value = str::from_utf8(line.unwrap()).unwrap();
    Some(head + 4 + value.trim().parse::<usize>().unwrap())
}
