//! The query string: every parameter must be known, given once and in range, or all that are not
//! are named.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, FieldError, MAX_FIELD_ERRORS, Result};
use crate::id::parse_id;

/// The longest page, in rows.
pub const MAX_LIMIT: i64 = 1000;

/// A parameter that a path takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    pub accepts: Accepts,
}

/// The values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// A whole number from 1 to [`MAX_LIMIT`].
    Limit,
    /// An id, or 0 for the start.
    After,
    Id,
    /// A text of so many characters.
    Text {
        min: usize,
        max: usize,
    },
    /// One of these, in any case.
    Choice(&'static [&'static str]),
}

impl Parameter {
    pub const LIMIT: Self = Self::new("limit", Accepts::Limit);
    pub const AFTER: Self = Self::new("after", Accepts::After);

    pub const fn new(name: &'static str, accepts: Accepts) -> Self {
        Self { name, accepts }
    }
}

/// Decoded parameters. Handlers take the parameters that they know; [`finish`](Self::finish)
/// refuses the rest.
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    errors: Vec<FieldError>,
}

/// The part of a list that is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The most rows; None for all.
    pub limit: Option<i64>,
    /// Only rows with a greater id.
    pub after: i64,
}

impl<'a> Query<'a> {
    /// Decodes `application/x-www-form-urlencoded` pairs (WHATWG URL, section 5.1), but refuses
    /// malformed percent-encoding and invalid UTF-8.
    pub fn parse(query: Option<&'a str>) -> Self {
        let mut parsed = Self { pairs: Vec::new(), errors: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => parsed.pairs.push((name, value)),
                (Some(name), None) => parsed.refuse(name, "is not percent-encoded UTF-8"),
                (None, _) => parsed.refuse(name, "is not percent-encoded UTF-8"),
            }
        }
        parsed
    }

    /// For a path that takes no parameters.
    pub fn none(query: Option<&str>) -> Result<()> {
        Query::parse(query).finish()
    }

    /// `limit` and `after`.
    pub fn page(&mut self) -> Page {
        let limit = self.id(&Parameter::LIMIT);
        Page { limit, after: self.id(&Parameter::AFTER).unwrap_or(0) }
    }

    /// The value of a parameter that is a number.
    pub fn id(&mut self, parameter: &Parameter) -> Option<i64> {
        let text = self.text(parameter)?;
        // `after` may be 0, which has been checked.
        Some(parse_id(&text).unwrap_or(0))
    }

    /// The value of a parameter, if it is given and accepted.
    pub fn text(&mut self, parameter: &Parameter) -> Option<String> {
        let value = self.take(parameter.name)?;
        match parameter.accepts.check(&value) {
            Ok(()) => Some(value.into_owned()),
            Err(message) => {
                self.refuse(parameter.name, message);
                None
            }
        }
    }

    /// Reports all errors: the values that were refused, and the parameters that nobody took.
    pub fn finish(mut self) -> Result<()> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.refuse(name, "is not a parameter of this path");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Error::BadQuery(self.errors)) }
    }

    fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let mut found = None;
        let mut repeated = false;
        self.pairs.retain_mut(|(candidate, value)| {
            let known = candidate == name;
            if known {
                repeated |= found.is_some();
                found = Some(std::mem::take(value));
            }
            !known
        });
        if repeated {
            self.refuse(name.to_owned(), "is given more than once");
            return None;
        }
        found
    }

    fn refuse(&mut self, name: impl Into<String>, message: impl Into<Cow<'static, str>>) {
        if self.errors.len() < MAX_FIELD_ERRORS {
            self.errors.push(FieldError::new(name, message));
        }
    }
}

impl Accepts {
    /// The error says what is expected.
    fn check(self, value: &str) -> Result<(), Cow<'static, str>> {
        let id = parse_id(value);
        match self {
            Self::Limit if id.is_some_and(|limit| limit <= MAX_LIMIT) => Ok(()),
            Self::Limit => Err(format!("must be a whole number from 1 to {MAX_LIMIT}").into()),
            Self::After if id.is_some() || value == "0" => Ok(()),
            Self::Id if id.is_some() => Ok(()),
            Self::After | Self::Id => Err("must be an id".into()),
            Self::Text { min, max } if !(min..=max).contains(&value.chars().count()) => {
                Err(format!("must have {min} to {max} characters").into())
            }
            Self::Text { .. } if value.contains('\0') => Err("must not contain U+0000".into()),
            Self::Text { .. } => Ok(()),
            Self::Choice(words) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => {
                Ok(())
            }
            Self::Choice(words) => Err(format!("must be one of {}", words.join(", ")).into()),
        }
    }
}

/// The target of the next page: `limit` and `after`, then the other parameters of this one.
pub fn next_page(
    path: &str,
    limit: i64,
    after: i64,
    others: &[(&str, Option<Cow<'_, str>>)],
) -> String {
    let mut target = format!("{path}?limit={limit}&after={after}");
    for (name, value) in others {
        if let Some(value) = value {
            target.extend(["&", name, "="]);
            target.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    target
}

/// None if a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let whole = text.split('%').skip(1).all(|after| {
        after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    });
    if !whole {
        return None;
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned().into());
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const SEARCH: Parameter = Parameter::new("search", Accepts::Text { min: 0, max: 200 });

    fn refused(query: Query<'_>) -> Vec<String> {
        match query.finish() {
            Err(Error::BadQuery(errors)) => errors.into_iter().map(|error| error.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn values_are_decoded() {
        let mut query = Query::parse(Some("search=a%20b+c%2B%25&limit=7&&after=3"));
        assert_eq!(query.page(), Page { limit: Some(7), after: 3 });
        assert_eq!(query.text(&SEARCH).unwrap(), "a b c+%");
        assert!(refused(query).is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let mut query =
            Query::parse(Some("limit=0&after=-1&x=1&search=%zz&%ff=1&gender=a&gender=b"));
        query.page();
        query.text(&Parameter::new("gender", Accepts::Choice(&["a", "b"])));
        query.text(&SEARCH);
        let mut names = refused(query);
        names.sort();
        assert_eq!(names, ["%ff", "after", "gender", "limit", "search", "x"]);
    }

    #[test]
    fn the_number_of_errors_is_bounded() {
        for pair in ["x&", "%ff&", "limit=0&limit=1&"] {
            let pairs = pair.repeat(1000);
            let mut query = Query::parse(Some(&pairs));
            query.page();
            assert!((1..=MAX_FIELD_ERRORS).contains(&refused(query).len()), "{pair}");
        }
    }

    #[test]
    fn the_next_page_keeps_the_other_parameters() {
        let others = [("search", Some("a&b %".into())), ("gender", None)];
        assert_eq!(next_page("/p", 2, 9, &others), "/p?limit=2&after=9&search=a%26b%20%25");
    }
}
