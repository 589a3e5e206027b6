//! The door: a request's `Authorization` header becomes a [`AuthUser`], or the request ends here.

use std::time::Instant;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::SessionId;
use super::cache::TokenCache;
use super::session::{EndedSessions, Standing};
use super::token::{Keys, Verified};
use crate::db::connection::Parameter;
use crate::db::{SharedConnection, Sql};
use crate::error::{Error, Result};

/// Somebody whose token was verified and whose session has not ended. Nothing else can make one, so
/// that a handler that takes a `AuthUser` cannot be reached without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthUser {
    verified: Verified,
}

impl AuthUser {
    /// Reads `Authorization: Bearer <token>` (RFC 6750, section 2.1; the scheme in any case). The
    /// database is only asked when this instance cannot know whether the session is there and has not
    /// ended: when it is first used here, and every few seconds.
    pub async fn authenticate(
        keys: &Keys,
        cache: &TokenCache,
        ended: &EndedSessions,
        shared: &SharedConnection,
        headers: &HeaderMap,
    ) -> Result<Self> {
        let value = headers.get(AUTHORIZATION).ok_or(Error::Unauthorized)?;
        let value = value.to_str().map_err(|_| Error::InvalidToken)?;
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(Error::Unauthorized);
        }
        let verified = cache.verify(keys, token).ok_or(Error::InvalidToken)?;
        let live = match ended.standing(verified.session_id, verified.user_id) {
            Standing::Live => true,
            Standing::Ended => false,
            Standing::Unknown => {
                let asked = Instant::now();
                let Verified { user_id, session_id, .. } = &verified;
                let parameters: [Parameter<'_>; 2] = [session_id, user_id];
                // In a box, because it is rare, and would make every request's future larger.
                let found = Box::pin(shared.query_opt(Sql::SessionsIsLive, &parameters));
                let found = found.await?.is_some();
                if found {
                    ended.found(*session_id, *user_id, asked);
                }
                found
            }
        };
        if live { Ok(Self { verified }) } else { Err(Error::InvalidToken) }
    }

    pub fn id(self) -> i64 {
        self.verified.user_id
    }

    pub fn session_id(self) -> SessionId {
        self.verified.session_id
    }
}
