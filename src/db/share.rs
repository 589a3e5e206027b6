//! Shares of a pool, with a limit for each user within a share: neither one kind of work nor one
//! user can take all connections (a bulkhead).

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::metrics::{Counted, ShareMetrics, microseconds};

/// How long a request waits for a permit before it is refused.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// A fixed number of permits. One user gets at most half of them, and at least one; further
/// requests of that user queue separately, so that they do not block other users.
pub struct PoolShare {
    permits: Arc<Semaphore>,
    max_per_user: usize,
    /// The permits of each user who holds one or waits for one.
    users: Mutex<HashMap<i64, Arc<Semaphore>>>,
    metrics: Arc<ShareMetrics>,
}

/// The right to one connection, until dropped.
pub struct Permit {
    _connection: OwnedSemaphorePermit,
    _user: Option<UserPermit>,
    _in_use: Counted,
}

impl PoolShare {
    pub fn new(size: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(size));
        Arc::new(Self {
            permits,
            max_per_user: (size / 2).max(1),
            users: Mutex::default(),
            metrics: Arc::new(ShareMetrics::new(size)),
        })
    }

    pub fn metrics(&self) -> &Arc<ShareMetrics> {
        &self.metrics
    }

    /// Waits for a permit, within the user's limit if there is a user. [`Error::Overloaded`] after
    /// [`WAIT_TIMEOUT`].
    pub async fn acquire(self: &Arc<Self>, user: Option<i64>) -> Result<Permit> {
        let mut acquiring = pin!(timeout(WAIT_TIMEOUT, async {
            // The user's limit comes first, so that a request queued there holds no permit of the
            // share.
            let user_permit = match user {
                Some(user) => Some(UserPermit::take(self, user).await?),
                None => None,
            };
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            let in_use = self.metrics.in_use.count();
            Some(Permit { _connection: permit, _user: user_permit, _in_use: in_use })
        }));
        let acquired = if let Some(acquired) = poll_immediate(&mut acquiring).await {
            acquired
        } else {
            let (_waiting, since) = (self.metrics.waiting.count(), Instant::now());
            let acquired = acquiring.await;
            self.metrics.waits.record(microseconds(since.elapsed()));
            acquired
        };
        acquired.ok().flatten().ok_or(Error::Overloaded { retry_after: 1 })
    }

    fn users(&self) -> MutexGuard<'_, HashMap<i64, Arc<Semaphore>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit of a user, or a request that waits for one.
struct UserPermit {
    share: Arc<PoolShare>,
    user: i64,
    /// The user's permits.
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl UserPermit {
    async fn take(share: &Arc<PoolShare>, user: i64) -> Option<Self> {
        let semaphore = Arc::clone(
            share
                .users()
                .entry(user)
                .or_insert_with(|| Arc::new(Semaphore::new(share.max_per_user))),
        );
        let acquire = Arc::clone(&semaphore).acquire_owned();
        let mut user_permit =
            Self { share: Arc::clone(share), user, semaphore: Some(semaphore), permit: None };
        user_permit.permit = Some(acquire.await.ok()?);
        Some(user_permit)
    }
}

impl Drop for UserPermit {
    /// Removes the user's entry with the last request of the user.
    fn drop(&mut self) {
        self.permit = None;
        let mut users = self.share.users();
        self.semaphore = None;
        if users.get(&self.user).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            users.remove(&self.user);
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

    fn acquire_now(share: &Arc<PoolShare>, user: Option<i64>) -> Option<Permit> {
        share.acquire(user).now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_user_has_half_of_the_permits_and_all_users_together_have_all() {
        let share = PoolShare::new(4);
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
        let share = PoolShare::new(1);
        let first = acquire_now(&share, ADA).unwrap();
        let mut pending: Vec<_> = [ADA, ADA, EVE].map(|user| Box::pin(share.acquire(user))).into();
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
        let share = PoolShare::new(1);
        let permit = acquire_now(&share, ADA).unwrap();
        for user in [ADA, EVE, None] {
            let refused = share.acquire(user).await;
            assert!(matches!(refused, Err(Error::Overloaded { .. })));
        }
        assert_eq!(share.users().len(), 1);
        drop(permit);
        assert!(share.users().is_empty());
        assert_eq!(share.permits.available_permits(), 1);
    }
}
