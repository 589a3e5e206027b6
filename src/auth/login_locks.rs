//! One login at a time for each account and address: concurrent ones would use up the limit of the
//! account and address, which counts each as failed until it has succeeded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use crate::error::{Error, Result};

/// The longest queue for one account and address: about as many as can be served in time at the
/// usual hash cost, and far fewer than the connections that one client may have.
const MAX_WAITING: usize = 40;
/// Seconds after which everything queued now has left, see [`MAX_WAIT`](super::password::MAX_WAIT).
const RETRY_AFTER: u32 = 10;

/// The locks that are held or waited for.
#[derive(Default)]
pub struct LoginLocks {
    /// By a keyed hash of account and address, which bounds the memory and whose collisions nobody
    /// outside can find. An entry is removed with its last claim.
    entries: Mutex<HashMap<u64, Entry>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Entry {
    /// How many hold the lock or wait for it.
    claims: usize,
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// The lock of one login, held until dropped.
pub struct LoginLock<'a> {
    _lock: OwnedMutexGuard<()>,
    _claim: Claim<'a>,
}

impl LoginLocks {
    /// Waits for the lock of an account and address. [`Error::Overloaded`] at the deadline, and
    /// [`Error::TooManyAttempts`] at once if the queue is full.
    pub async fn acquire(
        &self,
        email: &str,
        address: &str,
        deadline: Instant,
    ) -> Result<LoginLock<'_>> {
        let key = self.hasher.hash_one((email.to_lowercase(), address));
        let (claim, lock) = self.claim(key)?;
        let lock = timeout_at(deadline.into(), lock.lock_owned())
            .await
            .map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER })?;
        Ok(LoginLock { _lock: lock, _claim: claim })
    }

    fn claim(&self, key: u64) -> Result<(Claim<'_>, Arc<tokio::sync::Mutex<()>>)> {
        let mut entries = self.entries();
        let entry = entries.entry(key).or_default();
        if entry.claims > MAX_WAITING {
            return Err(Error::TooManyAttempts { retry_after: RETRY_AFTER });
        }
        entry.claims += 1;
        Ok((Claim { locks: self, key }, Arc::clone(&entry.lock)))
    }

    fn release(&self, key: u64) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&key) {
            entry.claims -= 1;
            if entry.claims == 0 {
                entries.remove(&key);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a holder or waiter until dropped.
struct Claim<'a> {
    locks: &'a LoginLocks,
    key: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.locks.release(self.key);
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
    async fn one_login_at_a_time_holds_the_lock_of_an_account_and_address() {
        let locks = LoginLocks::default();
        let lock = locks.acquire("a@b", "192.0.2.1", soon()).await.unwrap();
        assert!(poll_immediate(locks.acquire("A@B", "192.0.2.1", soon())).await.is_none());
        // Other accounts and addresses are not blocked.
        locks.acquire("c@d", "192.0.2.1", soon()).await.unwrap();
        locks.acquire("a@b", "192.0.2.2", soon()).await.unwrap();
        drop(lock);
        locks.acquire("a@b", "192.0.2.1", soon()).await.unwrap();
        assert!(locks.entries().is_empty(), "nothing is kept of those who have left");
    }

    #[tokio::test]
    async fn a_lock_that_is_not_free_in_time_is_given_up() {
        let locks = LoginLocks::default();
        let _lock = locks.acquire("a@b", "192.0.2.1", soon()).await.unwrap();
        let late = locks.acquire("a@b", "192.0.2.1", Instant::now()).await;
        assert!(matches!(late, Err(Error::Overloaded { .. })));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_the_rest_is_refused_at_once() {
        let locks = LoginLocks::default();
        let lock = locks.acquire("a@b", "192.0.2.1", soon()).await.unwrap();
        let waiting = (0..MAX_WAITING + 3).map(|_| locks.acquire("a@b", "192.0.2.1", soon()));
        let mut waiting: Vec<_> = waiting.map(Box::pin).collect();
        let mut refused = 0;
        for pending in &mut waiting {
            let answer = poll_immediate(pending).await;
            refused += usize::from(matches!(answer, Some(Err(Error::TooManyAttempts { .. }))));
        }
        assert_eq!(refused, 3);
        waiting.truncate(MAX_WAITING);
        drop(lock);
        // Each releases its lock at once.
        let served = join_all(waiting.into_iter().map(async |pending| pending.await.is_ok())).await;
        assert_eq!(served, [true; MAX_WAITING]);
    }
}
