//! An extractor that verifies the access token, signed by the service, and yields the user.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use crate::{App, Failure};

pub struct Keys {
    decoding: DecodingKey,
    validation: Validation,
}

impl Keys {
    pub fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&["healthcare-backend"]);
        validation.set_audience(&["healthcare-api"]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        Self { decoding: DecodingKey::from_secret(secret), validation }
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "they must be there, and of these types")]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: u64,
    exp: u64,
}

pub struct User {
    pub id: i64,
}

impl FromRequestParts<App> for User {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Failure::Unauthorized)?;
        let token = decode::<Claims>(token, &app.keys.decoding, &app.keys.validation)
            .map_err(|_| Failure::Unauthorized)?;
        let id = token.claims.sub.parse().map_err(|_| Failure::Unauthorized)?;
        Ok(Self { id })
    }
}
