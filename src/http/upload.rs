//! Bodies that are too large to hold: read part by part, from a client that must keep up a rate.

use std::time::Duration;

use bytes::BytesMut;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::Request;
use super::body::next;
use crate::error::{Error, Result};

/// The size of a part, in bytes. It is exceeded by what one read of the socket returns.
pub const PART: usize = 128 << 10;
/// The limit of an import without `IMPORT_MAX_BYTES`, in bytes.
pub const DEFAULT_LIMIT: usize = 256 << 20;
/// The lowest average rate, in bytes a second. Only the time spent waiting for the client counts.
const MIN_RATE: u64 = 16 << 10;
/// The time a client may be behind that rate.
const GRACE: Duration = Duration::from_secs(10);
/// The timeout for the whole body, whoever is waited for.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(600);

/// A body that is being read.
pub struct Upload {
    body: Incoming,
    limit: usize,
    received: usize,
    /// How long the client was waited for.
    waited: Duration,
    deadline: Instant,
}

/// A part of a body.
pub struct Part {
    pub bytes: BytesMut,
    /// Whether it is the last one.
    pub last: bool,
}

impl Upload {
    /// [`Error::BodyTooLarge`] if the body says that it is.
    pub fn new(request: Request, limit: usize) -> Result<Self> {
        let body = request.into_body();
        if body.size_hint().lower() > limit as u64 {
            return Err(Error::BodyTooLarge { limit });
        }
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        Ok(Self { body, limit, received: 0, waited: Duration::ZERO, deadline })
    }

    /// The next part, of [`PART`] bytes unless it is the last.
    pub async fn next(&mut self) -> Result<Part> {
        let mut bytes = BytesMut::new();
        while bytes.len() < PART {
            let before = Instant::now();
            let deadline = before + self.patience();
            let read = next(&mut self.body, deadline.min(self.deadline)).await?;
            self.waited += before.elapsed();
            let Some(read) = read else { return Ok(Part { bytes, last: true }) };
            self.received += read.len();
            if self.received > self.limit {
                return Err(Error::BodyTooLarge { limit: self.limit });
            }
            bytes.extend_from_slice(&read);
        }
        Ok(Part { bytes, last: false })
    }

    /// How long the client may take for its next bytes.
    fn patience(&self) -> Duration {
        let earned = Duration::from_millis(self.received as u64 * 1000 / MIN_RATE);
        (GRACE + earned).saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::StatusCode;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::http::response::empty;

    /// The status of an upload of at most 1,000,000 bytes that sends so many every second, and how
    /// long it took.
    async fn upload(bytes: usize, a_second: usize) -> (u16, Duration) {
        let (client, server) = duplex(1 << 20);
        let answer = service_fn(async |request: Request| {
            let mut upload = match Upload::new(request, 1_000_000) {
                Ok(upload) => upload,
                Err(error) => return Ok(empty(error.status_and_code().0)),
            };
            loop {
                match upload.next().await {
                    Ok(Part { last: true, .. }) => {
                        return Ok::<_, std::convert::Infallible>(empty(StatusCode::OK));
                    }
                    Ok(_) => {}
                    Err(error) => return Ok(empty(error.status_and_code().0)),
                }
            }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(server), answer).await;
        });
        let started = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(client);
        let head = format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {bytes}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        tokio::spawn(async move {
            let mut left = bytes;
            while left > 0 {
                let part = left.min(a_second);
                let _ = writer.write_all(&vec![b'x'; part]).await;
                left -= part;
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut status = [0; 12];
        reader.read_exact(&mut status).await.unwrap();
        let status = std::str::from_utf8(&status).unwrap().split(' ').nth(1).unwrap();
        (status.parse().unwrap(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_up_the_rate_may_take_long_and_one_below_it_may_not() {
        let (status, took) = upload(1_000_000, 17_000).await;
        assert_eq!(status, 200);
        assert!(took > Duration::from_secs(50), "{took:?}");
        let (status, took) = upload(1_000_000, 8_000).await;
        assert_eq!(status, 408);
        // Ten seconds, and what the bytes have earned.
        assert!(took > Duration::from_secs(15) && took < Duration::from_secs(25), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_the_limit_is_refused_by_its_head() {
        let (status, took) = upload(1_000_001, 1000).await;
        assert_eq!((status, took), (413, Duration::ZERO));
    }
}
