//! One login at a time for an account and address: else those that run at once would all be let
//! through before the first of them has failed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use crate::error::{Error, Result};

/// How many may wait for one account and address: about as many as can be served in time at the usual
/// cost of a hash, and far fewer than the connections that one client may have.
const MAX_WAITING: usize = 40;
/// Seconds after which all who wait now are gone, as [`MAX_WAIT`](super::password::MAX_WAIT) says.
const RETRY_AFTER: u32 = 10;

/// Who has a turn and who waits for one.
#[derive(Default)]
pub struct LoginLocks {
    /// By a keyed hash of account and address, which bounds the memory; nobody outside can find two
    /// that are equal. An entry goes with the last who needs it.
    lines: Mutex<HashMap<u64, Line>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Line {
    /// Who has the turn or waits for it.
    members: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The turn of one login, until this is dropped.
pub struct Turn<'a> {
    _turn: OwnedMutexGuard<()>,
    _member: Member<'a>,
}

impl LoginLocks {
    /// Waits for the turn of an account and address. [`Error::Overloaded`] if it does not come by the
    /// deadline, and [`Error::TooManyAttempts`] at once where too many wait already.
    pub async fn wait(&self, email: &str, address: &str, deadline: Instant) -> Result<Turn<'_>> {
        let key = self.hasher.hash_one((email.to_lowercase(), address));
        let (member, turn) = self.join(key)?;
        let turn = timeout_at(deadline.into(), turn.lock_owned())
            .await
            .map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER })?;
        Ok(Turn { _turn: turn, _member: member })
    }

    fn join(&self, key: u64) -> Result<(Member<'_>, Arc<tokio::sync::Mutex<()>>)> {
        let mut lines = self.lock();
        let line = lines.entry(key).or_default();
        if line.members > MAX_WAITING {
            return Err(Error::TooManyAttempts { retry_after: RETRY_AFTER });
        }
        line.members += 1;
        Ok((Member { turns: self, key }, Arc::clone(&line.turn)))
    }

    fn leave(&self, key: u64) {
        let mut lines = self.lock();
        if let Some(line) = lines.get_mut(&key) {
            line.members -= 1;
            if line.members == 0 {
                lines.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts somebody as long as it lives.
struct Member<'a> {
    turns: &'a LoginLocks,
    key: u64,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.turns.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures_util::future::{join_all, poll_immediate};

    use super::*;
    use crate::auth::password::MAX_WAIT;

    fn soon() -> Instant {
        Instant::now() + MAX_WAIT
    }

    #[tokio::test]
    async fn one_at_a_time_has_the_turn_of_an_account_and_address() {
        let turns = LoginLocks::default();
        let turn = turns.wait("a@b", "192.0.2.1", soon()).await.unwrap();
        assert!(poll_immediate(turns.wait("A@B", "192.0.2.1", soon())).await.is_none());
        // Others do not wait for it.
        turns.wait("c@d", "192.0.2.1", soon()).await.unwrap();
        turns.wait("a@b", "192.0.2.2", soon()).await.unwrap();
        drop(turn);
        turns.wait("a@b", "192.0.2.1", soon()).await.unwrap();
        assert!(turns.lock().is_empty(), "nothing is kept of those who have left");
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_in_time_is_given_up() {
        let turns = LoginLocks::default();
        let _turn = turns.wait("a@b", "192.0.2.1", soon()).await.unwrap();
        let late = turns.wait("a@b", "192.0.2.1", Instant::now()).await;
        assert!(matches!(late, Err(Error::Overloaded { .. })));
    }

    #[tokio::test]
    async fn only_so_many_wait_and_the_rest_is_refused_at_once() {
        let turns = LoginLocks::default();
        let turn = turns.wait("a@b", "192.0.2.1", soon()).await.unwrap();
        let waiting = (0..MAX_WAITING + 3).map(|_| turns.wait("a@b", "192.0.2.1", soon()));
        let mut waiting: Vec<_> = waiting.map(Box::pin).collect();
        let mut refused = 0;
        for wait in &mut waiting {
            let answer = poll_immediate(wait).await;
            refused += usize::from(matches!(answer, Some(Err(Error::TooManyAttempts { .. }))));
        }
        assert_eq!(refused, 3);
        waiting.truncate(MAX_WAITING);
        drop(turn);
        // Each gives its turn back at once.
        let served = join_all(waiting.into_iter().map(async |wait| wait.await.is_ok())).await;
        assert_eq!(served, [true; MAX_WAITING]);
    }
}
