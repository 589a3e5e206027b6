//! The door: a request's `Authorization` header becomes a [`User`], or the request ends here.

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::token::Keys;
use crate::error::{Error, Result};

/// Somebody whose token was verified. Nothing else can make one, so that a handler that takes a
/// `User` cannot be reached without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    id: i64,
}

impl User {
    /// Reads `Authorization: Bearer <token>` (RFC 6750, section 2.1; the scheme in any case).
    pub fn authenticate(keys: &Keys, headers: &HeaderMap) -> Result<Self> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Error::Unauthorized)?;
        if values.next().is_some() {
            return Err(Error::BadRequest("There must be one Authorization header."));
        }
        let value = value.to_str().map_err(|_| Error::InvalidToken)?;
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::Unauthorized);
        }
        let verified = keys.verify(token.trim()).ok_or(Error::InvalidToken)?;
        Ok(Self { id: verified.user_id })
    }

    pub fn id(self) -> i64 {
        self.id
    }
}
