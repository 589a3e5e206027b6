//! Responses and their bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::Response;
use super::budget::Lease;
use crate::error::Result;
use crate::json::WriteJson;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body that is complete, or streamed in parts whose number is not known at the start.
pub enum Body {
    Whole(Bytes),
    /// An error closes the connection without the last chunk, so that no client takes a partial
    /// body for a complete one.
    Parts(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Parts(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|part| part.map(|part| part.map(Frame::data).map_err(|_| Failed))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}

/// The stream of a body failed; the cause is in the log.
#[derive(Debug)]
pub struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for Failed {}

/// A response with one JSON value.
pub fn json(status: StatusCode, value: &impl WriteJson) -> Response {
    // Most resources fit, so the buffer grows at most once or twice.
    let mut bytes = Vec::with_capacity(1024);
    value.write_json(&mut bytes);
    json_bytes(status, bytes)
}

/// The same for a value that may be large, which the lease covers.
pub fn json_within(lease: Lease, status: StatusCode, value: &impl WriteJson) -> Response {
    let mut bytes = Vec::with_capacity(1024);
    value.write_json(&mut bytes);
    json_bytes(status, lease.keep(bytes.into()))
}

/// A response with serialized JSON.
pub fn json_bytes(status: StatusCode, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::Whole(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
