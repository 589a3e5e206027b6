//! Shares of a pool, with limits for each user and each row within a share: neither one kind of
//! work nor one user nor one locked row can take all connections (a bulkhead).

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::STATEMENT_RESERVE;
use crate::deadline;
use crate::error::{Error, Result};
use crate::metrics::{Counted, ShareMetrics, microseconds};

/// How long a request waits for a permit before it is refused.
pub const TURN_WAIT: Duration = Duration::from_secs(1);
/// The same for what may then wait for a lock, so that it is answered within a second.
pub const WRITE_TURN_WAIT: Duration = Duration::from_millis(400);
/// The most requests that wait for permits of a share; more are refused at once.
const MAX_WAITING: usize = 4096;
/// The most statements that change the same row at the same time: while it is locked, they wait for
/// it, each on a connection. It is a quarter of a small share.
const MAX_PER_ROW: usize = 2;

/// A row of a table, by its id.
pub type RowKey = (&'static str, i64);

/// Whose permit it is, and for what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim {
    pub user: Option<i64>,
    /// The row that is changed, if one is.
    pub row: Option<RowKey>,
}

/// A fixed number of permits. One user gets at most half of them, and at least one, and the changes
/// of one row get a few; further requests of that user or row queue separately, so that they do not
/// block others. A quarter is kept from changes of rows, which can all be locked.
pub struct PoolShare {
    permits: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    users: Arc<Limits<i64>>,
    rows: Arc<Limits<RowKey>>,
    waiting: Semaphore,
    patience: Duration,
    metrics: Arc<ShareMetrics>,
}

/// The right to one connection, until dropped.
pub struct Permit {
    _connection: OwnedSemaphorePermit,
    _change: Option<OwnedSemaphorePermit>,
    _user: Option<LimitedPermit<i64>>,
    _row: Option<LimitedPermit<RowKey>>,
    _in_use: Counted,
}

impl PoolShare {
    /// Requests wait for `patience` at most.
    pub fn new(size: usize, patience: Duration) -> Arc<Self> {
        let for_changes = size - (size / 4).max(1).min(size - 1);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(size)),
            changes: Arc::new(Semaphore::new(for_changes)),
            users: Limits::new((size / 2).max(1)),
            rows: Limits::new((size / 4).clamp(1, MAX_PER_ROW)),
            waiting: Semaphore::new(MAX_WAITING),
            patience,
            metrics: Arc::new(ShareMetrics::new(size)),
        })
    }

    pub fn metrics(&self) -> &Arc<ShareMetrics> {
        &self.metrics
    }

    /// Waits for a permit. [`Error::Overloaded`] after the patience, or when the deadline leaves no
    /// time for a statement, and at once if too many wait; [`Error::Locked`] if those before it
    /// still wait for the same row.
    pub async fn acquire(&self, claim: Claim) -> Result<Permit> {
        let overloaded = Error::Overloaded { retry_after: 1 };
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(overloaded) };
        let waits_for_row = AtomicBool::new(claim.row.is_some());
        // The narrowest limit comes first, so that a request queued there holds no permit that
        // others could use.
        let mut acquiring =
            pin!(timeout_at(deadline::within(self.patience, STATEMENT_RESERVE), async {
                let row = self.rows.take(claim.row).await?;
                waits_for_row.store(false, Ordering::Relaxed);
                let user = self.users.take(claim.user).await?;
                let change = match claim.row {
                    Some(_) => Some(Arc::clone(&self.changes).acquire_owned().await.ok()?),
                    None => None,
                };
                let connection = Arc::clone(&self.permits).acquire_owned().await.ok()?;
                let in_use = self.metrics.in_use.count();
                Some(Permit {
                    _connection: connection,
                    _change: change,
                    _user: user,
                    _row: row,
                    _in_use: in_use,
                })
            }));
        let acquired = if let Some(acquired) = poll_immediate(&mut acquiring).await {
            acquired
        } else {
            let (_waiting, since) = (self.metrics.waiting.count(), Instant::now());
            let acquired = acquiring.await;
            self.metrics.waits.record(microseconds(since.elapsed()));
            acquired
        };
        match acquired {
            Ok(Some(permit)) => Ok(permit),
            _ if waits_for_row.load(Ordering::Relaxed) => {
                let cause = "too many changes of one row".to_owned();
                Err(Error::Locked { of_table: false, cause })
            }
            _ => Err(overloaded),
        }
    }
}

/// A number of permits for each key that somebody holds one of or waits for.
struct Limits<K> {
    most: usize,
    entries: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A permit of a key, or a request that waits for one.
struct LimitedPermit<K: Copy + Eq + Hash> {
    limits: Arc<Limits<K>>,
    key: K,
    /// The key's permits.
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Copy + Eq + Hash> Limits<K> {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, entries: Mutex::default() })
    }

    /// Waits for a permit of the key if there is one. None if the limits are gone.
    async fn take(self: &Arc<Self>, key: Option<K>) -> Option<Option<LimitedPermit<K>>> {
        let Some(key) = key else { return Some(None) };
        let new = || Arc::new(Semaphore::new(self.most));
        let semaphore = Arc::clone(self.entries().entry(key).or_insert_with(new));
        let acquire = Arc::clone(&semaphore).acquire_owned();
        let limits = Arc::clone(self);
        let mut limited = LimitedPermit { limits, key, semaphore: Some(semaphore), permit: None };
        limited.permit = Some(acquire.await.ok()?);
        Some(Some(limited))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for LimitedPermit<K> {
    /// Removes the key's entry with its last request.
    fn drop(&mut self) {
        self.permit = None;
        let mut entries = self.limits.entries();
        self.semaphore = None;
        if entries.get(&self.key).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures_util::FutureExt;

    use super::*;

    const ADA: Option<i64> = Some(1);
    const EVE: Option<i64> = Some(2);

    fn acquire_now(share: &PoolShare, user: Option<i64>) -> Option<Permit> {
        share.acquire(Claim { user, row: None }).now_or_never().map(Result::unwrap)
    }

    fn change_now(share: &PoolShare, id: i64) -> Option<Permit> {
        let claim = Claim { user: None, row: Some(("patients", id)) };
        share.acquire(claim).now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_row_has_a_few_of_the_permits_and_all_changes_together_leave_some() {
        let share = PoolShare::new(8, TURN_WAIT);
        let held = [change_now(&share, 1).unwrap(), change_now(&share, 1).unwrap()];
        assert!(change_now(&share, 1).is_none());
        let others: Vec<_> = (2..6).map(|id| change_now(&share, id).unwrap()).collect();
        assert!(change_now(&share, 6).is_none());
        let creations = [acquire_now(&share, None).unwrap(), acquire_now(&share, None).unwrap()];
        assert!(acquire_now(&share, None).is_none());
        drop((held, others, creations));
        assert!(share.rows.entries().is_empty());
        // The smallest share serves both.
        let share = PoolShare::new(1, TURN_WAIT);
        drop(change_now(&share, 1).unwrap());
        acquire_now(&share, None).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_row_is_told_apart_from_what_waits_for_a_connection() {
        let share = PoolShare::new(8, TURN_WAIT);
        let claim = |id| Claim { user: None, row: Some(("patients", id)) };
        let _held: Vec<_> = (0..8).map(|_| acquire_now(&share, None).unwrap()).collect();
        let (first, second, third, other) = tokio::join!(
            share.acquire(claim(1)),
            share.acquire(claim(1)),
            // It has less time than those before it, which wait for a connection.
            deadline::run(Duration::from_millis(1500), share.acquire(claim(1))),
            share.acquire(claim(2))
        );
        for overloaded in [first, second, other] {
            assert!(matches!(overloaded, Err(Error::Overloaded { .. })));
        }
        assert!(matches!(third, Err(Error::Locked { .. })));
    }

    #[tokio::test]
    async fn a_user_has_half_of_the_permits_and_all_users_together_have_all() {
        let share = PoolShare::new(4, TURN_WAIT);
        let held = [acquire_now(&share, ADA).unwrap(), acquire_now(&share, ADA).unwrap()];
        assert!(acquire_now(&share, ADA).is_none());
        let others = [acquire_now(&share, EVE).unwrap(), acquire_now(&share, None).unwrap()];
        assert!(acquire_now(&share, None).is_none());
        drop(held);
        let _more = [acquire_now(&share, None).unwrap(), acquire_now(&share, ADA).unwrap()];
        assert!(acquire_now(&share, ADA).is_none());
        drop(others);
        acquire_now(&share, ADA).unwrap();
    }

    #[tokio::test]
    async fn users_take_turns_on_a_single_permit() {
        let share = PoolShare::new(1, TURN_WAIT);
        let first = acquire_now(&share, ADA).unwrap();
        let claim = |user| Claim { user, row: None };
        let mut pending: Vec<_> =
            [ADA, ADA, EVE].map(|user| Box::pin(share.acquire(claim(user)))).into();
        for pending in &mut pending {
            assert!(pending.now_or_never().is_none());
        }
        drop(first);
        // Ada's two came before Eve, but queue at Ada's limit and not for the connection.
        for next in [2, 0, 0] {
            let user_permit = pending.remove(next);
            assert!(pending.iter_mut().all(|other| other.now_or_never().is_none()));
            drop(user_permit.now_or_never().unwrap().unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_too_long_is_refused_and_leaves_nothing_behind() {
        let share = PoolShare::new(1, TURN_WAIT);
        let permit = acquire_now(&share, ADA).unwrap();
        for user in [ADA, EVE, None] {
            let refused = share.acquire(Claim { user, row: None }).await;
            assert!(matches!(refused, Err(Error::Overloaded { .. })));
        }
        assert_eq!(share.users.entries().len(), 1);
        drop(permit);
        assert!(share.users.entries().is_empty());
        assert_eq!(share.permits.available_permits(), 1);
    }
}
