//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07), on requests that change
//! patients, doctors and mappings. Other requests ignore it.

use aws_lc_rs::digest::{Context, SHA256};
use hyper::header::{HeaderName, HeaderValue, IF_MATCH};

use super::{Request, Response};
use crate::db::IdempotencyKey;
use crate::error::{Error, Result};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// A request with a key, whose body has not been read yet.
pub struct KeyedHead {
    key: String,
    /// Of the head.
    hash: Context,
}

/// The key of a request, if it has one.
pub fn read(request: &Request) -> Result<Option<KeyedHead>> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::BadRequest("There must be one Idempotency-Key header at most."));
    }
    let key = parse(value).ok_or(Error::BadRequest(
        "Idempotency-Key must be 1 to 255 visible ASCII characters, with or without quotes.",
    ))?;
    let mut hash = Context::new(&SHA256);
    // No part can contain the line break that ends it, and an empty line comes before the body, so
    // that different requests are different bytes.
    for part in [request.method().as_str(), request.uri().path()] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    for value in request.headers().get_all(IF_MATCH) {
        hash.update(b"if-match: ");
        hash.update(value.as_bytes());
        hash.update(b"\n");
    }
    hash.update(b"\n");
    Ok(Some(KeyedHead { key, hash }))
}

impl KeyedHead {
    /// The key with the whole request.
    pub fn with_body(mut self, body: &[u8]) -> IdempotencyKey {
        self.hash.update(body);
        IdempotencyKey { key: self.key, request_hash: self.hash.finish().as_ref().to_vec() }
    }
}

/// Marks an answer that was given before.
pub fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
}

/// The draft makes the key a quoted string (RFC 9651, section 3.3.3); many clients send it without
/// quotes. Both are the same key, so that whoever quotes it only the second time is not served
/// twice.
fn parse(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let key = match text.strip_prefix('"') {
        Some(quoted) => unquote(quoted.strip_suffix('"')?)?,
        None => text.to_owned(),
    };
    let valid = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    valid.then_some(key)
}

/// The content of a quoted string, in which a backslash stands before each quote and backslash.
fn unquote(quoted: &str) -> Option<String> {
    let mut content = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => content.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            other => content.push(other),
        }
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        let long = "k".repeat(MAX_KEY);
        let quoted_long = format!("\"{long}\"");
        for (value, key) in [
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
            ("\"abc\"", Some("abc")),
            ("abc", Some("abc")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (r#"a"b\c"#, Some(r#"a"b\c"#)),
            ("!", Some("!")),
            (&long, Some(&*long)),
            (&quoted_long, Some(&*long)),
            ("", None),
            ("\"", None),
            ("\"\"", None),
            ("\"abc", None),
            ("\"a\"b\"", None),
            (r#""a\""#, None),
            (r#""a\b""#, None),
            ("\"abc\";p=1", None),
            ("\"abc\", \"def\"", None),
            ("a b", None),
            ("a\tb", None),
        ] {
            let read = HeaderValue::from_str(value).ok().and_then(|value| parse(&value));
            assert_eq!(read.as_deref(), key, "{value:?}");
        }
        for value in [format!("k{long}"), format!("\"k{long}\""), "é".to_owned()] {
            let read = HeaderValue::from_str(&value).ok().and_then(|value| parse(&value));
            assert_eq!(read, None, "{value:?}");
        }
    }
}
