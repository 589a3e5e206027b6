//! Versions as entity tags, and conditional requests (RFC 9110, sections 8.8.3 and 13.1).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

/// `"<version>"`.
pub fn of(version: i64) -> HeaderValue {
    // Quoted digits are always a valid header value.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A strong tag made of the bytes of something that has no version.
pub fn of_bytes(bytes: &[u8]) -> HeaderValue {
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes));
    HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` matches the version, so that a `GET` needs no body. A weak comparison.
pub fn none_match(headers: &HeaderMap, version: i64) -> bool {
    Tags::read(headers, &IF_NONE_MATCH).is_some_and(|tags| tags.any || tags.weak.contains(&version))
}

/// Whether `If-None-Match` matches this tag, of something that has no version. A weak comparison.
pub fn none_match_tag(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|other| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag)
}

/// The versions that `If-Match` accepts; None if it accepts any. A strong comparison: a weak tag,
/// or one that we never sent, matches nothing.
pub fn accepted_versions(headers: &HeaderMap) -> Option<Vec<i64>> {
    let tags = Tags::read(headers, &IF_MATCH)?;
    (!tags.any).then_some(tags.strong)
}

#[derive(Default)]
struct Tags {
    any: bool,
    strong: Vec<i64>,
    /// Includes the strong ones.
    weak: Vec<i64>,
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek()?;
        let mut tags = Self::default();
        for value in values.filter_map(|value| value.to_str().ok()) {
            // Only on its own: within a list it could be part of a foreign tag.
            tags.any |= value == "*";
            // None of our tags contains a comma, so splitting foreign tags does no harm.
            for tag in value.split(',').map(str::trim) {
                let (opaque, strong) = match tag.strip_prefix("W/") {
                    Some(opaque) => (opaque, false),
                    None => (tag, true),
                };
                if let Some(version) = version(opaque) {
                    tags.weak.push(version);
                    if strong {
                        tags.strong.push(version);
                    }
                }
            }
        }
        Some(tags)
    }
}

fn version(tag: &str) -> Option<i64> {
    crate::id::parse_id(tag.strip_prefix('"')?.strip_suffix('"')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn if_match_compares_strongly() {
        for (values, accepted) in [
            (&[][..], None),
            (&["*"], None),
            (&["\"3\""], Some(vec![3])),
            (&["\"3\", \"5\"", "\"7\""], Some(vec![3, 5, 7])),
            (&["W/\"3\""], Some(vec![])),
            (&["3"], Some(vec![])),
            (&["\"03\", \"a,b\""], Some(vec![])),
            (&["\"a,*,b\""], Some(vec![])),
        ] {
            assert_eq!(accepted_versions(&headers(&IF_MATCH, values)), accepted, "{values:?}");
        }
    }

    #[test]
    fn a_tag_that_is_no_version_is_compared_weakly() {
        let tag = HeaderValue::from_static("\"a1\"");
        for (values, matches) in [
            (&[][..], false),
            (&["*"], true),
            (&["\"b\", W/\"a1\""], true),
            (&["\"b\"", "\"a1\""], true),
            (&["a1"], false),
        ] {
            let headers = headers(&IF_NONE_MATCH, values);
            assert_eq!(none_match_tag(&headers, &tag), matches, "{values:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for (values, matches) in [
            (&[][..], false),
            (&["*"], true),
            (&["\"3\""], true),
            (&["W/\"3\""], true),
            (&["\"2\", \"3\""], true),
            (&["\"4\""], false),
        ] {
            assert_eq!(none_match(&headers(&IF_NONE_MATCH, values), 3), matches, "{values:?}");
        }
    }
}
