//! Splits a JSON object into pairs of name and raw value, so that each field can be checked on its
//! own and every wrong one be reported.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The members of an object in the order in which they were sent, including repeated ones.
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Parses a whole body. [`Error::MalformedJson`] if it is not JSON, [`Error::Validation`] if it
    /// is not an object.
    pub fn parse(body: &'a [u8]) -> Result<Self> {
        let Ok(text) = std::str::from_utf8(body) else {
            return Err(Error::MalformedJson { detail: "The body is not UTF-8.".into() });
        };
        if text.trim_ascii().is_empty() {
            return Err(Error::MalformedJson { detail: "The body is empty.".into() });
        }
        let members = serde_json::from_str::<Self>(text);
        members.map_err(|error| match serde_json::from_str::<&RawValue>(text) {
            Ok(value) if !value.get().starts_with('{') => {
                Error::Validation { detail: "The body must be a JSON object.", errors: Vec::new() }
            }
            Ok(_) => Error::MalformedJson {
                detail: "The body has a field whose name is not Unicode text.".into(),
            },
            Err(_) => Error::MalformedJson {
                detail: format!(
                    "The body is not one JSON value: line {}, column {}.",
                    error.line(),
                    error.column()
                )
                .into(),
            },
        })
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(20);
                while let Some(Text(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// A string that is borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;

        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowing)
    }
}

/// The text of a string value; None if it is no string, or contains a lone surrogate.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|Text(text)| text)
}

/// A defect of valid JSON that cannot be stored as it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// U+0000, which PostgreSQL cannot store as text.
    Nul,
    /// A lone surrogate, which is not Unicode text.
    LoneSurrogate,
}

/// Searches valid JSON for a defect.
pub fn flaw(raw: &RawValue) -> Option<Flaw> {
    let bytes = raw.get().as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        // Outside of strings, JSON has no backslashes.
        if byte != b'\\' {
            continue;
        }
        match code_unit(bytes, at) {
            None => at += 1,
            Some(0) => return Some(Flaw::Nul),
            Some(0xD800..=0xDBFF) => {
                let low = bytes.get(at + 5).filter(|byte| **byte == b'\\');
                match low.and_then(|_| code_unit(bytes, at + 6)) {
                    Some(0xDC00..=0xDFFF) => at += 11,
                    _ => return Some(Flaw::LoneSurrogate),
                }
            }
            Some(0xDC00..=0xDFFF) => return Some(Flaw::LoneSurrogate),
            Some(_) => at += 5,
        }
    }
    None
}

/// The UTF-16 code unit of an escape like `\u00e9`. `at` is the index after the backslash. None for
/// another kind of escape, like `\n`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 5)?.strip_prefix(b"u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn found(json: &str) -> Option<Flaw> {
        flaw(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn flaws_are_found_wherever_they_hide() {
        assert_eq!(found(r#"{"a":"b","c":[1,2,{"d":null}]}"#), None);
        assert_eq!(found(r#"{"a\u0000":1}"#), Some(Flaw::Nul));
        assert_eq!(found(r#"["\\u0000"]"#), None);
        assert_eq!(found(r#"["\\\u0000"]"#), Some(Flaw::Nul));
        assert_eq!(found(r#"["\ud83d\ude00"]"#), None);
        assert_eq!(found(r#"["\ud83d"]"#), Some(Flaw::LoneSurrogate));
        assert_eq!(found(r#"["\ud83dx\ude00"]"#), Some(Flaw::LoneSurrogate));
        assert_eq!(found(r#"["\ude00"]"#), Some(Flaw::LoneSurrogate));
    }
}
