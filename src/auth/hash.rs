//! bcrypt in steps. A thread of low priority still keeps a core for milliseconds when a worker or
//! PostgreSQL wakes up there: the kernel lets a slice come to its end, and weighs other sessions and
//! containers as whole groups. So the thread that hashes sleeps after every round, of some 70
//! microseconds, while requests come. That took the p99 of reads beside 200 clients that log in
//! wrongly from 5.8 times what it is without them to 1.04 and 1.22 times (2 cores, medians of two runs
//! of `python3 benches/load/logins.py flood`). The price: beside as many reads as the machine can do, a
//! login takes 2 to 4 s instead of 0.3.
//!
//! The rounds are those of the `bcrypt` crate (Provos and Mazières, "A Future-Adaptable Password
//! Scheme", 1999), which offers no way to stop between them; it still reads and checks the hashes.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use bcrypt::{BASE_64, HashParts};
use blowfish::Blowfish;

use crate::error::{Error, Result};

/// bcrypt silently cuts what is longer.
pub const MAX_BYTES: usize = 71;
/// How long the thread sleeps at least; the system adds some 50 microseconds. It leaves hashing a
/// fifth of a core while requests come.
const PAUSE: Duration = Duration::from_micros(200);
/// Rounds without a new request after which there are no more pauses. With one, a worker that waits
/// for the core would wait on, because the request that asks for a pause waits with it.
const CALM_ROUNDS: u32 = 8;
/// Bytes of a hash that are kept; the last one never is.
const KEPT: usize = 23;

/// A new hash with a new salt. `requests` counts those that have come, and makes the pauses.
pub fn hash(password: &str, cost: u32, requests: &AtomicU64) -> Result<String> {
    if password.len() > MAX_BYTES {
        return Err(Error::internal("a password is too long to be hashed whole"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    let hash = rounds(password, cost, &salt, requests);
    Ok(format!("$2b${cost:02}${}{}", BASE_64.encode(salt), encode(&hash)))
}

/// Whether a password has this hash. What is no bcrypt hash fits no password.
pub fn verify(password: &str, stored: &str, requests: &AtomicU64) -> bool {
    let Ok(parts) = HashParts::from_str(stored) else { return false };
    let hash = encode(&rounds(password, parts.get_cost(), &parts.get_salt_raw(), requests));
    let kept = stored.len().checked_sub(hash.len()).and_then(|start| stored.get(start..));
    kept.is_some_and(|kept| verify_slices_are_equal(kept.as_bytes(), hash.as_bytes()).is_ok())
}

/// The binary logarithm of the rounds of a hash. None if the text is no bcrypt hash.
pub fn cost_of(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|hash| hash.get_cost())
}

fn encode(hash: &[u8; 24]) -> String {
    BASE_64.encode(hash.get(..KEPT).unwrap_or_default())
}

fn rounds(password: &str, cost: u32, salt: &[u8; 16], requests: &AtomicU64) -> [u8; 24] {
    let key = [password.as_bytes(), &[0]].concat();
    let mut seen = requests.load(Ordering::Relaxed);
    let mut calm = CALM_ROUNDS;
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(salt, &key);
    for _ in 0..1_u64 << cost {
        state.bc_expand_key(&key);
        state.bc_expand_key(salt);
        let now = requests.load(Ordering::Relaxed);
        if now != seen {
            seen = now;
            calm = 0;
        }
        if calm < CALM_ROUNDS {
            calm += 1;
            thread::sleep(PAUSE);
        }
    }
    encrypt(&state)
}

/// Encrypts the text that every bcrypt hash is made of, 64 times.
fn encrypt(state: &Blowfish) -> [u8; 24] {
    let mut hash = *b"OrpheanBeholderScryDoubt";
    for block in hash.as_chunks_mut::<8>().0 {
        if let ([left, right], []) = block.as_chunks_mut() {
            let mut words = [*left, *right].map(u32::from_be_bytes);
            for _ in 0..64 {
                words = state.bc_encrypt(words);
            }
            [*left, *right] = words.map(u32::to_be_bytes);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn hashes_are_those_of_the_bcrypt_crate(password in "\\PC{0,17}", other in "\\PC{0,17}") {
            let requests = AtomicU64::new(0);
            let stored = hash(&password, 4, &requests).unwrap();
            prop_assert!(bcrypt::verify(&password, &stored).unwrap());
            prop_assert_eq!(bcrypt::verify(&other, &stored).unwrap(), other == password);
            let stored = bcrypt::hash(&password, 5).unwrap();
            prop_assert!(verify(&password, &stored, &requests));
            prop_assert_eq!(verify(&other, &stored, &requests), other == password);
        }
    }

    #[test]
    fn what_is_no_hash_fits_nothing() {
        let requests = AtomicU64::new(0);
        for wrong in ["", "x", "$2b$04$", "$2b$04$aaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(!verify("", wrong, &requests), "{wrong}");
        }
    }
}
