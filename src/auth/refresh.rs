//! Refresh tokens: opaque to clients, an HMAC over session, user and generation, so that no secret
//! is stored and a token always has the same successor (RFC 9700, section 4.14.2).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::SessionId;
use crate::secret::Secret;

/// Domain separation from anything else that the secret signs, and from the tokens of sessions
/// before they had random ids.
const PURPOSE: &[u8] = b"healthcare-backend refresh token of a session with a random id";

/// Session, user and generation, before the HMAC.
const MESSAGE_BYTES: usize = SessionId::BYTES + 8 + 4;

/// The session and the number of exchanges that a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    pub session_id: SessionId,
    pub user_id: i64,
    pub number: i32,
}

/// Signs with the current key, and verifies with that and the previous one.
pub struct RefreshKeys {
    /// The signing key comes first.
    keys: Vec<hmac::Key>,
}

impl RefreshKeys {
    pub fn new(secret: &Secret, previous: Option<&Secret>) -> Self {
        let derive = |secret: &Secret| {
            let base = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&base, PURPOSE).as_ref())
        };
        Self { keys: [Some(secret), previous].into_iter().flatten().map(derive).collect() }
    }

    pub fn token(&self, generation: Generation) -> String {
        let mut token = Vec::with_capacity(MESSAGE_BYTES + 32);
        token.extend(generation.session_id.to_bytes());
        token.extend(generation.user_id.to_be_bytes());
        token.extend(generation.number.to_be_bytes());
        if let Some(key) = self.keys.first() {
            token.extend(hmac::sign(key, &token).as_ref());
        }
        URL_SAFE_NO_PAD.encode(token)
    }

    /// None if the signature is not ours.
    pub fn verify(&self, token: &str) -> Option<Generation> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (message, tag) = bytes.split_at_checked(MESSAGE_BYTES)?;
        if !self.keys.iter().any(|key| hmac::verify(key, message, tag).is_ok()) {
            return None;
        }
        let (session, rest) = message.split_at_checked(SessionId::BYTES)?;
        let (user, number) = rest.split_at_checked(8)?;
        Some(Generation {
            session_id: SessionId::from_bytes(session.try_into().ok()?),
            user_id: i64::from_be_bytes(user.try_into().ok()?),
            number: i32::from_be_bytes(number.try_into().ok()?),
        })
    }
}

impl Generation {
    /// The first generation of a session.
    pub fn first(session_id: SessionId, user_id: i64) -> Self {
        Self { session_id, user_id, number: 0 }
    }

    #[must_use]
    pub fn successor(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn secret(letter: &str) -> Secret {
        Secret::new(letter.repeat(32)).unwrap()
    }

    #[test]
    fn a_token_is_known_by_its_own_key_and_the_one_after_it() {
        let session_id = SessionId::random().unwrap();
        let generation = Generation { session_id, user_id: 7, number: 3 };
        let old = RefreshKeys::new(&secret("a"), None);
        let token = old.token(generation);
        assert_eq!(old.verify(&token), Some(generation));
        assert_eq!(
            RefreshKeys::new(&secret("b"), Some(&secret("a"))).verify(&token),
            Some(generation)
        );
        assert_eq!(RefreshKeys::new(&secret("b"), None).verify(&token), None);
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_not_known() {
        let keys = RefreshKeys::new(&secret("a"), None);
        let token = keys.token(Generation::first(SessionId::random().unwrap(), 1));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(keys.verify(&changed), None, "{at}");
        }
        for wrong in ["", "AAAA", &token[1..], &format!("{token}=")] {
            assert_eq!(keys.verify(wrong), None, "{wrong}");
        }
    }
}
