//! Forged access tokens, which must be refused everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Attack, END, Scene};
use crate::access::tokens::bad_tokens;
use crate::harness::{JWT_SECRET, TestServer};

/// A key that an attacker chose.
const CHOSEN: &[u8] = b"a key that the attacker has chosen";

fn forged(header: &[u8], claims: &[u8], key: &[u8]) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A valid header with one more member.
fn header_with(more: &str) -> String {
    format!(r#"{{"alg":"HS256","typ":"JWT"{more}}}"#)
}

/// Headers of tokens signed with a key that the header itself names.
const KEYS: [(&str, &str); 8] = [
    ("a jwk", r#","jwk":{"kty":"oct","k":"YSBrZXkgdGhhdCB0aGUgYXR0YWNrZXIgaGFzIGNob3Nlbg"}"#),
    ("a jku", r#","jku":"http://evil.example/keys.json""#),
    ("an x5u", r#","x5u":"http://evil.example/key.pem""#),
    ("an x5c", r#","x5c":["AAAA"]"#),
    ("a kid that is a path", r#","kid":"../../../../dev/null""#),
    ("a kid that is SQL", r#","kid":"x' UNION SELECT 'a key' --""#),
    ("a kid that is a command", r#","kid":"x | whoami""#),
    ("a kid of 10 KB", r#","kid":"KID""#),
];

/// Headers of tokens that are signed with the right key.
const HEADERS: [(&str, &str); 16] = [
    ("a kid that nobody has", r#"{"alg":"HS256","typ":"JWT","kid":"other"}"#),
    ("an empty kid", r#"{"alg":"HS256","typ":"JWT","kid":""}"#),
    ("a kid that is a number", r#"{"alg":"HS256","typ":"JWT","kid":1}"#),
    ("two kids", r#"{"alg":"HS256","typ":"JWT","kid":"a","kid":"b"}"#),
    ("crit", r#"{"alg":"HS256","typ":"JWT","crit":["exp"]}"#),
    ("crit for unencoded payloads", r#"{"alg":"HS256","typ":"JWT","b64":false,"crit":["b64"]}"#),
    ("an empty crit", r#"{"alg":"HS256","typ":"JWT","crit":[]}"#),
    ("hs256", r#"{"alg":"hs256","typ":"JWT"}"#),
    ("alg None", r#"{"alg":"None","typ":"JWT"}"#),
    ("alg NONE", r#"{"alg":"NONE","typ":"JWT"}"#),
    ("RS256 over an HMAC", r#"{"alg":"RS256","typ":"JWT"}"#),
    ("ES256 over an HMAC", r#"{"alg":"ES256","typ":"JWT"}"#),
    ("no alg", r#"{"typ":"JWT"}"#),
    ("two algs", r#"{"alg":"none","alg":"HS256","typ":"JWT"}"#),
    ("an empty header", "{}"),
    ("a header that is an array", "[]"),
];

/// A claim and what it may not be.
const CLAIMS: [(&str, &str); 27] = [
    ("exp", "9999999999.5"),
    ("exp", "1e10"),
    ("exp", "-1"),
    ("exp", "0"),
    ("exp", "99999999999999999999"),
    ("exp", "1e999"),
    ("exp", "[9999999999]"),
    ("exp", "{}"),
    ("exp", "null"),
    ("exp", "true"),
    ("iat", "-1"),
    ("iat", "1.5"),
    ("iat", "null"),
    ("aud", r#"["healthcare-api"]"#),
    ("aud", "null"),
    ("iss", r#"["healthcare-backend"]"#),
    ("sub", "-1"),
    ("sub", r#""-1""#),
    ("sub", r#""0""#),
    ("sub", r#""1 OR 1=1""#),
    ("sub", r#"" 1""#),
    ("sub", r#""9223372036854775808""#),
    ("sub", r#"["1"]"#),
    ("sid", "1"),
    ("sid", r#""-1""#),
    ("nbf", "9999999999"),
    ("nbf", r#""9999999999""#),
];

/// The claims of a token as text, so that they can be malformed in ways that no library would
/// write.
fn claims_of(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn tokens(scene: &Scene) -> Vec<(String, String)> {
    let (own, victims) = (scene.attacker.token(), scene.victim.token());
    let plain = header_with("");
    let theirs = claims_of(victims);
    let sign =
        |header: &str, claims: &str| forged(header.as_bytes(), claims.as_bytes(), JWT_SECRET);
    let mut tokens: Vec<(String, String)> = bad_tokens(own, victims)
        .into_iter()
        .map(|(name, token)| (name.to_owned(), token))
        .collect();
    for (name, more) in KEYS {
        let header = header_with(&more.replace("KID", &"k".repeat(10_000)));
        tokens.push((name.to_owned(), forged(header.as_bytes(), theirs.as_bytes(), CHOSEN)));
    }
    for (name, key) in
        [("an empty key", &b""[..]), ("a key of one byte", b"\0"), ("a word", b"secret")]
    {
        tokens.push((name.to_owned(), forged(plain.as_bytes(), theirs.as_bytes(), key)));
    }
    for (name, header) in HEADERS {
        tokens.push((name.to_owned(), sign(header, &theirs)));
    }
    let claims: Value = serde_json::from_str(&theirs).unwrap();
    for (claim, value) in CLAIMS {
        let mut rest = claims.clone();
        rest.as_object_mut().unwrap().remove(claim);
        let rest = rest.to_string();
        let spoiled = format!("{},\"{claim}\":{value}}}", rest.strip_suffix('}').unwrap());
        tokens.push((format!("{claim} {value}"), sign(&plain, &spoiled)));
        if claims.get(claim).is_some() {
            let twice = format!("{},\"{claim}\":{value}}}", theirs.strip_suffix('}').unwrap());
            tokens.push((format!("{claim} twice, then {value}"), sign(&plain, &twice)));
        }
    }
    for claims in ["", "null", "[]", "\"sub\"", "{", "{}", &format!("{theirs}x")] {
        tokens.push((format!("claims {claims}"), sign(&plain, claims)));
    }
    let padded = sign(&plain, &theirs) + "=";
    tokens.push(("padding".to_owned(), padded));
    tokens.push(("five parts".to_owned(), format!("{own}.a.b")));
    tokens
}

pub fn attacks(scene: &Scene) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, token) in tokens(scene) {
        let bytes = format!("GET /api/patients HTTP/1.1\r\nauthorization: Bearer {token}\r\n{END}");
        attacks.push(Attack::new(format!("token: {name}"), bytes, &[401]));
    }
    attacks
}

/// Control test: a token that is built the same way without a defect is accepted.
#[tokio::test]
async fn a_token_that_is_forged_with_the_right_key_and_nothing_wrong_is_valid() {
    let server = TestServer::start().await;
    let claims = claims_of(server.user().await.token());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let early = format!("{},\"nbf\":{}}}", claims.strip_suffix('}').unwrap(), now - 60);
    for claims in [claims, early] {
        let token = forged(header_with("").as_bytes(), claims.as_bytes(), JWT_SECRET);
        server.anyone().with_token(&token).get("/api/auth/me").await.expect(200);
    }
}
