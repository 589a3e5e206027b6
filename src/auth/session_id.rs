//! The id of a session: the `sid` of its tokens and of its row.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::error::{Error, Result};

/// Hexadecimal digits of its text form.
const DIGITS: usize = 32;

/// 128 random bits, not from a sequence, so that no session ever gets the id of another, even if
/// the database is restored to an earlier moment.
///
/// As text it is 32 lower-case hexadecimal digits, which PostgreSQL accepts as a `uuid`. It has
/// only the size of a UUID, without version bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    pub const BYTES: usize = 16;

    /// A new random id.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; Self::BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        Ok(Self::from_bytes(bytes))
    }

    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = ();

    /// Accepts only what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let ours = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !ours || text.len() != DIGITS {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(drop)
    }
}

impl ToSql for SessionId {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.to_bytes());
        Ok(IsNull::No)
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::UUID
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for SessionId {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::from_bytes(raw.try_into()?))
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::UUID
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn each_is_another_and_is_read_as_it_is_written() {
        let first = SessionId::random().unwrap();
        assert_ne!(first, SessionId::random().unwrap());
        for id in [first, SessionId(0), SessionId(1), SessionId(u128::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(SessionId::from_bytes(id.to_bytes()), id);
        }
    }

    #[test]
    fn there_is_one_spelling() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<SessionId>().unwrap().to_string(), text);
        for wrong in [
            "",
            "1",
            "+0112233445566778899aabbccddeeff",
            "00112233445566778899AABBCCDDEEFF",
            "0112233445566778899aabbccddeeff",
            "000112233445566778899aabbccddeeff",
            " 0112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeeff",
            "00112233445566778899aabbccddeefg",
            "éé112233445566778899aabbccddee",
        ] {
            assert_eq!(wrong.parse::<SessionId>(), Err(()), "{wrong}");
        }
    }
}
