//! Access tokens: JWT (RFC 7519) signed with HS256 and verified as RFC 8725 advises.
//!
//! jsonwebtoken verifies the signature. The claims are checked here, because its defaults allow a
//! leeway, a missing audience or issuer, and a token that expires in this very second.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::SessionId;
use crate::error::{Error, Result};
use crate::id::parse_id;
use crate::secret::Secret;

const ISSUER: &str = "healthcare-backend";
const AUDIENCE: &str = "healthcare-api";
const TYPE: &str = "JWT";

/// The claims of an access token, all required.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The user's id, in decimal.
    sub: String,
    /// The session's random id.
    sid: String,
    /// Unix time, in seconds.
    iat: u64,
    exp: u64,
}

/// The content of a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub user_id: i64,
    pub session_id: SessionId,
    /// Unix time, in seconds.
    pub expires_at: u64,
}

/// A new token.
#[derive(Debug)]
pub struct Signed {
    pub token: String,
    /// Seconds for which it is valid.
    pub expires_in: u32,
}

/// Signs with the current key, and verifies with that and the previous one.
pub struct Keys {
    header: Header,
    encoding: EncodingKey,
    /// The signing key comes first.
    verifying: Vec<(String, DecodingKey)>,
    validation: Validation,
    ttl_seconds: u32,
}

impl Keys {
    /// Signs and verifies once, so that a library that cannot sign is noticed at start.
    pub fn new(secret: &Secret, previous: Option<&Secret>, ttl_seconds: u32) -> Result<Self> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.leeway = 0;
        validation.required_spec_claims.clear();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key_id(secret));
        let keys = Self {
            header,
            encoding: EncodingKey::from_secret(secret.bytes()),
            verifying: [Some(secret), previous]
                .into_iter()
                .flatten()
                .map(|secret| (key_id(secret), DecodingKey::from_secret(secret.bytes())))
                .collect(),
            validation,
            ttl_seconds,
        };
        let session_id = SessionId::random()?;
        let verified = keys.verify(&keys.sign(1, session_id, u64::MAX)?.token);
        if verified
            .is_some_and(|verified| (verified.user_id, verified.session_id) == (1, session_id))
        {
            return Ok(keys);
        }
        Err(Error::internal("a token that was just signed is not valid"))
    }

    /// A token that expires no later than its session, whose end is given in Unix time.
    pub fn sign(
        &self,
        user_id: i64,
        session_id: SessionId,
        session_ends_at: u64,
    ) -> Result<Signed> {
        let now = unix_seconds();
        let left = u32::try_from(session_ends_at.saturating_sub(now)).unwrap_or(u32::MAX);
        let expires_in = left.min(self.ttl_seconds);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id.to_string(),
            sid: session_id.to_string(),
            iat: now,
            exp: now + u64::from(expires_in),
        };
        let token = encode(&self.header, &claims, &self.encoding)
            .map_err(|error| Error::internal(format!("signing: {error}")))?;
        Ok(Signed { token, expires_in })
    }

    /// None unless every part of the token is as we sign it and it has not expired.
    pub fn verify(&self, token: &str) -> Option<Verified> {
        self.verifying.iter().find_map(|key| self.verify_with(key, token))
    }

    fn verify_with(&self, (id, key): &(String, DecodingKey), token: &str) -> Option<Verified> {
        let token = decode::<Claims>(token, key, &self.validation).ok()?;
        let (header, claims) = (token.header, token.claims);
        let ours = header.typ.as_deref() == Some(TYPE)
            && header.kid.is_none_or(|named| named == *id)
            && header.crit.is_none()
            && claims.iss == ISSUER
            && claims.aud == AUDIENCE
            && claims.exp > unix_seconds();
        let verified = Verified {
            user_id: parse_id(&claims.sub)?,
            session_id: claims.sid.parse().ok()?,
            expires_at: claims.exp,
        };
        ours.then_some(verified)
    }
}

/// A key id that reveals nothing about the key.
fn key_id(secret: &Secret) -> String {
    let hash = digest(&SHA256, &[b"kid:", secret.bytes()].concat());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..6).unwrap_or_default())
}

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_token_ends_when_it_would_or_when_its_session_does_whichever_is_sooner() {
        let keys = Keys::new(&Secret::new("s".repeat(32)).unwrap(), None, 60).unwrap();
        let session = SessionId::random().unwrap();
        for (left, valid) in [(3600, 60), (30, 30)] {
            let before = unix_seconds();
            let Signed { token, expires_in } = keys.sign(1, session, before + left).unwrap();
            let late = unix_seconds() - before;
            assert!((valid - late..=valid).contains(&u64::from(expires_in)), "{expires_in}");
            let expires_at = keys.verify(&token).unwrap().expires_at;
            assert!(expires_at <= before + left && expires_at <= before + late + 60);
        }
    }

    #[test]
    fn a_token_of_a_session_without_a_second_left_is_not_valid() {
        let keys = Keys::new(&Secret::new("s".repeat(32)).unwrap(), None, 60).unwrap();
        let session = SessionId::random().unwrap();
        for ends_at in [0, unix_seconds() - 1, unix_seconds()] {
            let Signed { token, expires_in } = keys.sign(1, session, ends_at).unwrap();
            assert_eq!(expires_in, 0);
            assert_eq!(keys.verify(&token), None);
        }
    }
}
