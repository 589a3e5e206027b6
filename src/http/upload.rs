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
