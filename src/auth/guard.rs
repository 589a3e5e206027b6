//! The guard of private routes: the `Authorization` header becomes an [`AuthUser`], or the request
//! is refused.

use std::time::Instant;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::SessionId;
use super::cache::TokenCache;
use super::session::{EndedSessions, Standing};
use super::token::{Keys, Verified};
use crate::db::connection::Parameter;
use crate::db::{SharedConnection, Sql};
use crate::error::{Error, Result};

/// A user whose token is verified and whose session has not ended. It cannot be constructed
/// otherwise, so a handler that takes an `AuthUser` cannot be reached without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthUser {
    verified: Verified,
}

impl AuthUser {
    /// Parses `Authorization: Bearer <token>` (RFC 6750, section 2.1; the scheme in any case). The
    /// database is only queried when the state of the session is not known here: at its first use
    /// on this instance, and again every few seconds.
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
                // Boxed, because it is rare and would enlarge the future of every request.
                let lookup = Box::pin(shared.query_opt(Sql::SessionsIsLive, &parameters));
                let confirmed = lookup.await?.is_some();
                if confirmed {
                    ended.confirm(*session_id, *user_id, asked);
                }
                confirmed
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
