//! Request bodies: refused by their headers before a byte is read, then read within limits of size
//! and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use std::future::poll_fn;
use std::pin::Pin;
use tokio::time::{Instant, timeout_at};

use super::Request;
use super::budget::{Allowance, Lease, SMALL};
use crate::deadline;
use crate::error::{Error, Result};

/// The largest body under `/api/auth`, in bytes.
pub const AUTH_LIMIT: usize = 8 << 10;
/// The largest body elsewhere, in bytes.
pub const LIMIT: usize = 256 << 10;

/// The timeout for a whole body.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause within a body.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a body of at most `limit` bytes with a JSON content type; parsing it is up to the caller.
/// The lease covers the body and a response of `answer` bytes.
pub async fn read(
    request: Request,
    limit: usize,
    allowance: &Allowance,
    answer: usize,
) -> Result<(Bytes, Lease)> {
    check_type(request.headers())?;
    let mut body = request.into_body();
    let length = body.size_hint();
    if length.lower() > limit as u64 {
        return Err(Error::BodyTooLarge { limit });
    }
    let length = length.exact().and_then(|length| usize::try_from(length).ok());
    // Acquired before the first byte is read. The length of a chunked body is not known, so it
    // counts as the limit.
    let mut lease = allowance.lease(answer + room(length.unwrap_or(limit))).await?;
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let first = next(&mut body, deadline).await?.unwrap_or_default();
    if body.is_end_stream() && first.len() <= limit {
        deadline::restart();
        lease.shrink(answer + room(first.len()));
        return Ok((first, lease));
    }
    let mut whole = BytesMut::with_capacity(length.unwrap_or(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    loop {
        if whole.len() > limit {
            return Err(Error::BodyTooLarge { limit });
        }
        let Some(bytes) = next(&mut body, deadline).await? else { break };
        whole.extend_from_slice(&bytes);
    }
    deadline::restart();
    lease.shrink(answer + room(whole.len()));
    Ok((whole.freeze(), lease))
}

/// The bytes to account for a body and what is parsed from it, which is about as much again. Small
/// bodies are not counted.
fn room(length: usize) -> usize {
    if length > SMALL { 2 * length } else { 0 }
}

/// Refuses a body that is too large on a route that needs none and reads none.
pub fn ignore(request: &Request, limit: usize) -> Result<()> {
    if request.body().size_hint().lower() > limit as u64 {
        return Err(Error::BodyTooLarge { limit });
    }
    Ok(())
}

/// The next bytes; None at the end.
pub async fn next(body: &mut Incoming, deadline: Instant) -> Result<Option<Bytes>> {
    let deadline = deadline.min(Instant::now() + PAUSE_TIMEOUT);
    loop {
        let frame = timeout_at(deadline, poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)))
            .await
            .map_err(|_| Error::RequestTimeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Error::BadRequest("The body ended early or is malformed.")),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
                // Trailers are ignored.
            }
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<()> {
    match media_type(headers, &["application/json"])? {
        Some(_) => Ok(()),
        None => Err(not_json()),
    }
}

/// The index of the body's type among those that are read; None if it is another.
pub fn media_type(headers: &HeaderMap, read: &[&str]) -> Result<Option<usize>> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Error::UnsupportedMediaType("The body must not be encoded (compressed)."));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return Ok(None) };
    let value = value.to_str().unwrap_or_default();
    Ok(read.iter().position(|media| is_type(value, media)))
}

/// The error if the body is not declared as JSON.
pub fn not_json() -> Error {
    Error::UnsupportedMediaType("The body must be application/json in UTF-8.")
}

/// Whether a content type is this one, with no charset but UTF-8 (RFC 8259, section 8.1). Other
/// parameters have no meaning for what is read here, and are ignored.
fn is_type(value: &str, read: &str) -> bool {
    let mut parts = value.split(';').map(str::trim);
    parts.next().is_some_and(|media| media.eq_ignore_ascii_case(read))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            Some(_) => true,
            None => parameter.is_empty(),
        })
}

#[cfg(test)]
mod tests {
    use super::is_type;

    fn is_json(value: &str) -> bool {
        is_type(value, "application/json")
    }

    #[test]
    fn only_json_in_utf_8_is_read() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json;",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=latin1",
            "application/json; charset",
            "application/merge-patch+json",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
