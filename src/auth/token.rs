//! Access tokens: JWT (RFC 7519) signed with HS256, checked as RFC 8725 advises.
//!
//! jsonwebtoken checks the signature. The claims are checked here, because its defaults allow a
//! leeway, a missing audience or issuer, and a token that expires this very second.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::routes::parse_id;

const ISSUER: &str = "healthcare-backend";
const AUDIENCE: &str = "healthcare-api";
const TYPE: &str = "JWT";

/// The claims of an access token, all required.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The user's id in digits.
    sub: String,
    /// The session.
    sid: String,
    /// Seconds since 1970.
    iat: u64,
    exp: u64,
}

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    pub user_id: i64,
    pub session: String,
}

/// Signs and verifies.
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ttl_seconds: u32,
}

impl Keys {
    pub fn new(secret: &Secret, ttl_seconds: u32) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.leeway = 0;
        validation.required_spec_claims.clear();
        Self {
            encoding: EncodingKey::from_secret(secret.bytes()),
            decoding: DecodingKey::from_secret(secret.bytes()),
            validation,
            ttl_seconds,
        }
    }

    /// Seconds for which a new token is valid.
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    pub fn sign(&self, user_id: i64, session: &str) -> Result<String> {
        let now = unix_seconds();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id.to_string(),
            sid: session.to_owned(),
            iat: now,
            exp: now + u64::from(self.ttl_seconds),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::internal(format!("signing: {error}")))
    }

    /// None unless every part of the token is as we make them and it has not expired.
    pub fn verify(&self, token: &str) -> Option<Verified> {
        let token = decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        let (header, claims) = (token.header, token.claims);
        let ours = header.typ.as_deref() == Some(TYPE)
            && header.crit.is_none()
            && claims.iss == ISSUER
            && claims.aud == AUDIENCE
            && claims.exp > unix_seconds();
        let user_id = parse_id(&claims.sub)?;
        (ours && !claims.sid.is_empty()).then_some(Verified { user_id, session: claims.sid })
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
