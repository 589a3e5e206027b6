//! W3C Trace Context: the caller's trace, by which a request is followed across services.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The lengths of the parts of version 00, in hexadecimal digits: version, trace id, parent id,
/// flags.
const DIGITS: [usize; 4] = [2, 32, 16, 2];

/// A valid `traceparent` of version 00 (Trace Context, section 3.2.2).
#[derive(Debug, Clone)]
pub struct TraceParent(HeaderValue);

impl TraceParent {
    /// The header, if there is one and it is valid. Otherwise the request has no trace (section
    /// 3.2.2.3): it is never refused for it, and nothing of it is logged.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        (values.next().is_none() && is_valid(value.as_bytes())).then(|| Self(value.clone()))
    }

    /// 32 hexadecimal digits, the same in all services.
    pub fn trace_id(&self) -> &str {
        self.part(3..35)
    }

    /// 16 hexadecimal digits: the caller's part of the trace.
    pub fn parent_id(&self) -> &str {
        self.part(36..52)
    }

    fn part(&self, range: std::ops::Range<usize>) -> &str {
        self.0.to_str().ok().and_then(|text| text.get(range)).unwrap_or_default()
    }
}

fn is_valid(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'-');
    let lowercase_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut valid = |digits: usize| {
        parts.next().is_some_and(|part| part.len() == digits && part.iter().all(lowercase_hex))
    };
    let well_formed = DIGITS.into_iter().all(&mut valid) && parts.next().is_none();
    let is_zero = |range| value.get(range).is_none_or(|id: &[u8]| id.iter().all(|b| *b == b'0'));
    well_formed && value.starts_with(b"00") && !is_zero(3..35) && !is_zero(36..52)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn parse(values: &[&str]) -> Option<TraceParent> {
        let headers = values.iter().map(|value| (TRACEPARENT, value.parse().unwrap()));
        TraceParent::of(&headers.collect())
    }

    #[test]
    fn a_valid_header_is_a_trace() {
        let trace = parse(&[&format!("00-{TRACE}-{PARENT}-01")]).unwrap();
        assert_eq!((trace.trace_id(), trace.parent_id()), (TRACE, PARENT));
        assert!(parse(&[&format!("00-{TRACE}-{PARENT}-ff")]).is_some(), "unknown flags");
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        let valid = format!("00-{TRACE}-{PARENT}-01");
        let (zero_trace, zero_parent) = ("0".repeat(32), "0".repeat(16));
        for wrong in [
            "",
            "00",
            &format!("ff-{TRACE}-{PARENT}-01"),
            &format!("01-{TRACE}-{PARENT}-01"),
            &format!("00-{zero_trace}-{PARENT}-01"),
            &format!("00-{TRACE}-{zero_parent}-01"),
            &format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-{PARENT}-1"),
            &format!("00-{TRACE}-{PARENT}"),
            &format!("{valid}-00"),
            &format!("{valid}-"),
            &format!("00-{TRACE}x-{PARENT}-01"),
            &format!("00-{}-{PARENT}-01", &TRACE[1..]),
            &format!("00 {TRACE}-{PARENT}-01"),
            &format!("00-{}g-{PARENT}-01", &TRACE[1..]),
        ] {
            assert!(parse(&[wrong]).is_none(), "{wrong}");
        }
        assert!(parse(&[&valid, &valid]).is_none());
        assert!(parse(&[]).is_none());
    }
}
