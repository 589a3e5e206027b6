//! Cross-origin resource sharing (WHATWG Fetch, section 3.2), off unless origins are listed.

use hyper::Method;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
    HeaderValue, ORIGIN, VARY,
};

use super::{Request, Response};

const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, x-request-id",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "allow, etag, idempotency-replayed, link, location, retry-after, www-authenticate, \
     x-request-id",
);
/// How long a browser may cache a preflight response, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The allowed origins, spelled as browsers send them.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<HeaderValue>);

/// What a request says about its origin, kept for its response.
pub struct CrossOrigin {
    /// None if it is not allowed.
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl std::str::FromStr for Origins {
    type Err = ();

    /// Parses a comma-separated list of exact origins (`https://app.example.com`).
    fn from_str(text: &str) -> Result<Self, ()> {
        text.split(',')
            .map(|origin| origin_value(origin.trim()))
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(())
    }
}

/// A scheme, a host and an optional port, and nothing else: no `*`, no path.
fn origin_value(origin: &str) -> Option<HeaderValue> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))?;
    let plain =
        |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    HeaderValue::from_str(origin).ok()
}

impl Origins {
    /// None if no origins are listed.
    pub fn inspect(&self, request: &Request) -> Option<CrossOrigin> {
        if self.0.is_empty() {
            return None;
        }
        let headers = request.headers();
        let origin = headers.get(ORIGIN).filter(|origin| self.0.contains(origin)).cloned();
        let preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        Some(CrossOrigin { origin, preflight })
    }
}

impl CrossOrigin {
    /// Adds the CORS headers. Tokens are in a header that the page sets itself, so credentials are
    /// never allowed.
    pub fn apply(self, response: &mut Response) {
        let allow = response.headers().get(ALLOW).cloned();
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        if let (true, Some(allow)) = (self.preflight, allow) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_origins_can_be_listed() {
        for right in ["https://a.example", "http://localhost:3000, https://[::1]:8443"] {
            assert!(right.parse::<Origins>().is_ok(), "{right}");
        }
        for wrong in
            ["", "*", "https://", "a.example", "https://a.example/", "https://*.example", "null"]
        {
            assert!(wrong.parse::<Origins>().is_err(), "{wrong}");
        }
    }
}
