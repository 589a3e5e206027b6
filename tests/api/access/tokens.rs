//! Tokens that must be refused everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};

use crate::harness::{JWT_SECRET, TestServer};

/// `{"alg":"none","typ":"JWT"}` in base64url.
const ALG_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

/// Every kind of invalid token, derived from two valid ones.
pub fn bad_tokens(own: &str, others: &str) -> Vec<(&'static str, String)> {
    let [header, payload, signature] = parts(own);
    let [_, other_payload, other_signature] = parts(others);
    let mut tokens = vec![
        ("garbage", "garbage".to_owned()),
        ("three empty parts", "..".to_owned()),
        ("no signature", format!("{header}.{payload}")),
        ("an empty signature", format!("{header}.{payload}.")),
        ("a tampered signature", format!("{header}.{payload}.{}", tampered(signature))),
        ("another token's signature", format!("{header}.{payload}.{other_signature}")),
        ("a tampered payload", format!("{header}.{other_payload}.{signature}")),
        ("alg none", format!("{ALG_NONE}.{payload}.")),
        ("alg none with a signature", format!("{ALG_NONE}.{payload}.{signature}")),
        ("a part too many", format!("{own}.{signature}")),
    ];
    let (claims, other_claims) = (Claims::of(own), Claims::of(others));
    let longer = format!("{}0", claims.0["sid"].as_str().unwrap());
    let other_key = EncodingKey::from_secret(b"a secret of somebody else, as long as that");
    let header = Header::new(Algorithm::HS256);
    tokens.extend([
        ("another key", encode(&header, &claims.0, &other_key).unwrap()),
        ("HS384", sign(&Header::new(Algorithm::HS384), &claims)),
        ("HS512", sign(&Header::new(Algorithm::HS512), &claims)),
        ("no typ", sign(&Header { typ: None, ..header.clone() }, &claims)),
        (
            "another typ",
            sign(&Header { typ: Some("at+jwt".to_owned()), ..header.clone() }, &claims),
        ),
        ("expired", sign(&header, &claims.with("exp", json!(now() - 1)))),
        // No leeway: the second of its expiry is too late.
        ("expiring now", sign(&header, &claims.with("exp", json!(now())))),
        ("exp as text", sign(&header, &claims.with("exp", json!((now() + 60).to_string())))),
        ("iat as text", sign(&header, &claims.with("iat", json!(now().to_string())))),
        ("sub as a number", sign(&header, &claims.with("sub", json!(1)))),
        ("a sub that is no id", sign(&header, &claims.with("sub", json!("01")))),
        ("an empty sid", sign(&header, &claims.with("sid", json!("")))),
        ("the sid of an older version", sign(&header, &claims.with("sid", json!("1")))),
        ("a sid with a letter too many", sign(&header, &claims.with("sid", json!(longer)))),
        ("the sid of no session", sign(&header, &claims.with("sid", json!("0".repeat(32))))),
        ("another user's sid", sign(&header, &claims.with("sid", other_claims.0["sid"].clone()))),
        ("another user's sub", sign(&header, &claims.with("sub", other_claims.0["sub"].clone()))),
        ("another audience", sign(&header, &claims.with("aud", json!("another-api")))),
        ("another issuer", sign(&header, &claims.with("iss", json!("somebody")))),
    ]);
    for (who, claim) in [
        ("no iss", "iss"),
        ("no aud", "aud"),
        ("no sub", "sub"),
        ("no sid", "sid"),
        ("no iat", "iat"),
        ("no exp", "exp"),
    ] {
        tokens.push((who, sign(&header, &claims.without(claim))));
    }
    tokens
}

/// The claims of a token.
struct Claims(Value);

impl Claims {
    /// The claims of a valid token, so that only the changed claim is wrong.
    fn of(token: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(JWT_SECRET);
        Self(decode(token, &key, &validation).unwrap().claims)
    }

    fn with(&self, name: &str, value: Value) -> Self {
        let mut claims = self.0.clone();
        claims[name] = value;
        Self(claims)
    }

    fn without(&self, name: &str) -> Self {
        let mut claims = self.0.clone();
        claims.as_object_mut().unwrap().remove(name);
        Self(claims)
    }
}

fn sign(header: &Header, claims: &Claims) -> String {
    encode(header, &claims.0, &EncodingKey::from_secret(JWT_SECRET)).unwrap()
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// The first character counts in full; of the last, some bits are padding.
fn tampered(signature: &str) -> String {
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{first}{}", &signature[1..])
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Control test: a token that is built the same way without a defect is accepted.
#[tokio::test]
async fn a_token_that_is_signed_again_is_valid() {
    let server = TestServer::start().await;
    let claims = Claims::of(server.user().await.token());
    for expiry in [now() + 60, now() + 1_000_000] {
        let claims = claims.with("exp", json!(expiry));
        let token = sign(&Header::new(Algorithm::HS256), &claims);
        server.anyone().with_token(&token).get("/api/auth/me").await.expect(200);
    }
}
