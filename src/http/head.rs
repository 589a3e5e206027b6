//! Checks of a request's head that hyper does not make, before anything else is processed.

use hyper::Version;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

use crate::error::{Error, FieldError, Result};

/// The longest request target, in bytes.
pub const MAX_TARGET: usize = 8 << 10;
/// The most bytes of all headers together, as they are sent.
pub const MAX_HEADERS: usize = 24 << 10;

/// Checks the head of a request.
pub fn check<B>(request: &hyper::Request<B>) -> Result<()> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Error::UriTooLong { limit: MAX_TARGET });
    }
    let (mut size, mut hosts, mut authorizations, mut lengths, mut encodings) = (0, 0, 0, 0, 0);
    for (name, value) in request.headers() {
        // Each is sent as `name: value` and CRLF.
        size += name.as_str().len() + value.len() + 4;
        match *name {
            HOST if is_host(value.as_bytes()) => hosts += 1,
            HOST => return Err(Error::BadRequest("The Host header is not a host.")),
            AUTHORIZATION => authorizations += 1,
            CONTENT_LENGTH => lengths += 1,
            // hyper treats the body as chunked if that comes last, and ignores the codings before
            // it.
            TRANSFER_ENCODING if !value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                return Err(Error::BadRequest("The only transfer encoding is chunked."));
            }
            TRANSFER_ENCODING => encodings += 1,
            _ => {}
        }
    }
    if size > MAX_HEADERS {
        return Err(Error::HeadersTooLarge { limit: MAX_HEADERS });
    }
    // RFC 9112, section 3.2.
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Error::BadRequest("There must be one Host header."));
    }
    if authorizations > 1 {
        return Err(Error::BadRequest("There must be one Authorization header at most."));
    }
    if lengths > 1 {
        return Err(Error::BadRequest("There must be one Content-Length header at most."));
    }
    // RFC 9112, section 6.1: chunked must not be applied more than once.
    if encodings > 1 {
        return Err(Error::BadRequest("There must be one Transfer-Encoding header at most."));
    }
    // RFC 9700, section 4.3.2: a token in a URL ends up in logs and histories.
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair.split('=').next() == Some("access_token")) {
        let message = "a token must not stand in the URL";
        return Err(Error::BadQuery(vec![FieldError::new("access_token", message)]));
    }
    Ok(())
}

/// Whether the bytes can be a host with an optional port (RFC 3986, section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'@' | b',' | b'"' | b'<' | b'>')
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use hyper::Request;

    use super::*;

    fn code(headers: &[(&str, &str)], target: &str) -> Option<&'static str> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).err().map(|error| error.status_and_code().1)
    }

    #[test]
    fn heads_that_mean_two_things_are_refused() {
        let host = ("host", "a");
        for (headers, refused) in [
            (vec![host], false),
            (vec![("host", "a:80")], false),
            (vec![("host", "[::1]:80")], false),
            (vec![], true),
            (vec![host, host], true),
            (vec![("host", "a/b")], true),
            (vec![("host", "u@a")], true),
            (vec![host, ("transfer-encoding", "Chunked")], false),
            (vec![host, ("transfer-encoding", "gzip, chunked")], true),
            (vec![host, ("transfer-encoding", "identity")], true),
            (vec![host, ("authorization", "a"), ("authorization", "a")], true),
            (vec![host, ("content-length", "1"), ("content-length", "1")], true),
        ] {
            let expected = refused.then_some("bad_request");
            assert_eq!(code(&headers, "/"), expected, "{headers:?}");
        }
        assert_eq!(code(&[host], "/?a=1&access_token=x"), Some("bad_query"));
        assert_eq!(code(&[host], &format!("/{}", "a".repeat(MAX_TARGET))), Some("uri_too_long"));
        assert_eq!(code(&[host], &format!("/{}", "a".repeat(MAX_TARGET - 1))), None);
        let long = "a".repeat(MAX_HEADERS);
        assert_eq!(code(&[host, ("x", &long)], "/"), Some("headers_too_large"));
    }
}
