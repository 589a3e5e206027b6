//! A budget of the bytes held for clients: request bodies while they are read, and response bodies
//! from before their rows are fetched until they are written. A client that reads slowly, or not at
//! all, ties up no more than its user's allowance.
//!
//! Small bodies are not counted. Larger ones are accounted for before they are fetched: if there is
//! no room, the request queues, and is refused after a timeout. A queued request holds nothing that
//! another might be waiting for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Bodies up to this size are not counted, in bytes.
pub const SMALL: usize = 4 << 10;

/// The budget of the whole process, in bytes.
const TOTAL: usize = 12 << 20;
/// The allowance of one user, in bytes.
const USER: usize = TOTAL / 4;
/// The allowance of all requests without a user together, in bytes.
const ANYONE: usize = 1 << 20;
/// How long a request is queued.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest queue of one holder; further requests are refused at once.
const MAX_WAITING_PER_HOLDER: usize = 32;
/// The most queued requests in total. Each takes some 16 KiB.
const MAX_WAITING: usize = 512;
/// Unused allowances are removed when there are this many.
const PRUNE_AT: usize = 1024;

/// Whose allowance a body counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    User(i64),
    /// Requests without a token.
    Anyone,
}

/// The budget of the process. One permit is one byte.
pub struct Budget {
    total: Arc<Semaphore>,
    /// One permit is one queued request.
    waiting: Semaphore,
    allowances: Mutex<HashMap<Holder, Arc<HolderBudget>>>,
}

/// The budget of one holder.
struct HolderBudget {
    bytes: Arc<Semaphore>,
    waiting: Semaphore,
}

/// Access to the budget for one holder.
#[derive(Clone)]
pub struct Allowance {
    budget: Arc<Budget>,
    holder: Holder,
}

/// Bytes that may be held, until dropped.
#[derive(Debug, Default)]
pub struct Lease(Option<Permits>);

/// The same number of permits of the holder and of the process.
#[derive(Debug)]
struct Permits {
    of_holder: OwnedSemaphorePermit,
    of_total: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            total: Arc::new(Semaphore::new(TOTAL)),
            waiting: Semaphore::new(MAX_WAITING),
            allowances: Mutex::default(),
        }
    }
}

impl Budget {
    pub fn allowance(self: &Arc<Self>, holder: Holder) -> Allowance {
        Allowance { budget: Arc::clone(self), holder }
    }

    /// The budget of one holder, which is kept while it is used.
    fn of(&self, holder: Holder) -> Arc<HolderBudget> {
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        if allowances.len() >= PRUNE_AT && !allowances.contains_key(&holder) {
            allowances.retain(|_, holder_budget| {
                Arc::strong_count(holder_budget) > 1 || holder_budget.is_used()
            });
        }
        let allowance = allowances.entry(holder).or_insert_with(|| {
            let bytes = if holder == Holder::Anyone { ANYONE } else { USER };
            let bytes = Arc::new(Semaphore::new(bytes));
            Arc::new(HolderBudget { bytes, waiting: Semaphore::new(MAX_WAITING_PER_HOLDER) })
        });
        Arc::clone(allowance)
    }
}

impl Allowance {
    /// Waits for a lease on `bytes`. [`Error::Overloaded`] after `WAIT_TIMEOUT`, or at once if a
    /// queue is full.
    pub async fn lease(&self, bytes: usize) -> Result<Lease> {
        let mut lease = Lease::default();
        if self.extend(&mut lease, bytes) {
            return Ok(lease);
        }
        let holder_budget = self.budget.of(self.holder);
        let _waiting = holder_budget.waiting.try_acquire().map_err(|_| full())?;
        let _in_total = self.budget.waiting.try_acquire().map_err(|_| full())?;
        self.wait(WAIT_TIMEOUT, &holder_budget, bytes).await
    }

    /// Waits for a lease for the next chunk of a response that has started. It counts in no queue,
    /// because waiting costs little memory.
    pub async fn next_lease(&self, wait: Duration, bytes: usize) -> Result<Lease> {
        self.wait(wait, &self.budget.of(self.holder), bytes).await
    }

    async fn wait(
        &self,
        wait: Duration,
        holder_budget: &HolderBudget,
        bytes: usize,
    ) -> Result<Lease> {
        let permits =
            timeout(wait, Permits::wait(&holder_budget.bytes, &self.budget.total, bytes)).await;
        Ok(Lease(Some(permits.map_err(|_| full())??)))
    }

    /// Extends a lease to `bytes` if there is room right now. True if it covers them.
    pub fn extend(&self, lease: &mut Lease, bytes: usize) -> bool {
        if lease.covers(bytes) {
            return true;
        }
        let more = bytes - lease.permits();
        let holder_budget = self.budget.of(self.holder);
        let Some(permits) = Permits::now(&holder_budget.bytes, &self.budget.total, more) else {
            return false;
        };
        match &mut lease.0 {
            Some(before) => before.merge(permits),
            none => *none = Some(permits),
        }
        true
    }

    /// Extends a lease to `bytes`, or [`Error::Overloaded`].
    pub fn cover(&self, lease: &mut Lease, bytes: usize) -> Result<()> {
        if self.extend(lease, bytes) { Ok(()) } else { Err(full()) }
    }
}

fn full() -> Error {
    Error::Overloaded { retry_after: 1 }
}

impl HolderBudget {
    /// Whether there are leases, which hold the semaphore.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.bytes) > 1
    }
}

impl Permits {
    fn now(holder: &Arc<Semaphore>, total: &Arc<Semaphore>, bytes: usize) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        let of_holder = Arc::clone(holder).try_acquire_many_owned(bytes).ok()?;
        let of_total = Arc::clone(total).try_acquire_many_owned(bytes).ok()?;
        Some(Self { of_holder, of_total })
    }

    /// The holder's permits first, so that a request that waits for the process's holds only its
    /// own user's.
    async fn wait(holder: &Arc<Semaphore>, total: &Arc<Semaphore>, bytes: usize) -> Result<Self> {
        let bytes = u32::try_from(bytes).map_err(|_| full())?;
        let of_holder = Arc::clone(holder).acquire_many_owned(bytes).await.map_err(|_| full())?;
        let of_total = Arc::clone(total).acquire_many_owned(bytes).await.map_err(|_| full())?;
        Ok(Self { of_holder, of_total })
    }

    fn merge(&mut self, other: Self) {
        self.of_holder.merge(other.of_holder);
        self.of_total.merge(other.of_total);
    }
}

impl Lease {
    fn permits(&self) -> usize {
        self.0.as_ref().map_or(0, |permits| permits.of_total.num_permits())
    }

    /// Whether `bytes` may be held.
    pub fn covers(&self, bytes: usize) -> bool {
        bytes <= SMALL.max(self.permits())
    }

    /// Releases what exceeds `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes <= SMALL {
            self.0 = None;
        }
        let surplus = self.permits().saturating_sub(bytes);
        if let Some(permits) = &mut self.0 {
            drop(permits.of_holder.split(surplus));
            drop(permits.of_total.split(surplus));
        }
    }

    /// Ties the lease to bytes that it covers: it ends when the last copy of them is dropped.
    pub fn keep(mut self, bytes: Bytes) -> Bytes {
        self.shrink(bytes.len());
        match self.0 {
            Some(permits) => Bytes::from_owner(LeasedBytes { bytes, _permits: permits }),
            None => bytes,
        }
    }
}

struct LeasedBytes {
    bytes: Bytes,
    _permits: Permits,
}

impl AsRef<[u8]> for LeasedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Allowance").field(&self.holder).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::time::Instant;

    use super::*;

    fn free(budget: &Arc<Budget>) -> usize {
        budget.total.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_are_not_counted() {
        let budget = Arc::new(Budget::default());
        let allowance = budget.allowance(Holder::Anyone);
        let mut lease = allowance.lease(SMALL).await.unwrap();
        assert!(allowance.extend(&mut lease, SMALL));
        assert_eq!(free(&budget), TOTAL);
        assert!(allowance.lease(ANYONE + 1).await.is_err(), "more than allowed");
    }

    #[tokio::test]
    async fn bytes_are_counted_until_the_last_copy_is_dropped() {
        let budget = Arc::new(Budget::default());
        let lease = budget.allowance(Holder::User(1)).lease(100_000).await.unwrap();
        assert_eq!(free(&budget), TOTAL - 100_000);
        let bytes = lease.keep(vec![b'x'; 60_000].into());
        assert_eq!((bytes.len(), free(&budget)), (60_000, TOTAL - 60_000));
        let copy = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(free(&budget), TOTAL - 60_000);
        drop(copy);
        assert_eq!(free(&budget), TOTAL);
        let lease = budget.allowance(Holder::User(1)).lease(100_000).await.unwrap();
        drop(lease.keep(Bytes::from_static(b"small")));
        assert_eq!(free(&budget), TOTAL);
    }

    #[tokio::test]
    async fn a_lease_grows_only_while_there_is_room() {
        let budget = Arc::new(Budget::default());
        let allowance = budget.allowance(Holder::User(1));
        let mut lease = Lease::default();
        assert!(allowance.extend(&mut lease, USER));
        assert_eq!(free(&budget), TOTAL - USER);
        assert!(!allowance.extend(&mut lease, USER + 1));
        assert!(allowance.cover(&mut lease, USER).is_ok());
        lease.shrink(10_000);
        assert_eq!(free(&budget), TOTAL - 10_000);
        drop(lease);
        assert_eq!(free(&budget), TOTAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_waits_for_its_own_allowance_and_no_other_waits_for_it() {
        let budget = Arc::new(Budget::default());
        let [ada, eve] = [1, 2].map(|id| budget.allowance(Holder::User(id)));
        let all = ada.lease(USER).await.unwrap();
        let started = Instant::now();
        assert!(matches!(ada.lease(SMALL + 1).await, Err(Error::Overloaded { .. })));
        assert_eq!(started.elapsed(), WAIT_TIMEOUT);
        eve.lease(USER).await.unwrap();
        assert_eq!(started.elapsed(), WAIT_TIMEOUT);
        let waiting = tokio::spawn(async move { ada.lease(USER).await });
        tokio::task::yield_now().await;
        drop(all);
        waiting.await.unwrap().unwrap();
        assert_eq!(free(&budget), TOTAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_of_a_holder_is_bounded_and_the_rest_is_refused_at_once() {
        let budget = Arc::new(Budget::default());
        let allowance = budget.allowance(Holder::User(1));
        let _all = allowance.lease(USER).await.unwrap();
        let started = Instant::now();
        let waiting: Vec<_> = (0..MAX_WAITING_PER_HOLDER)
            .map(|_| {
                let allowance = allowance.clone();
                tokio::spawn(async move { allowance.lease(USER).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(allowance.lease(USER).await.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
        // The next chunk of a response that has started is not refused at once.
        assert!(allowance.next_lease(3 * WAIT_TIMEOUT, USER).await.is_err());
        assert_eq!(started.elapsed(), 3 * WAIT_TIMEOUT);
        for waiting in waiting {
            assert!(waiting.await.unwrap().is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_holders_together_are_bounded() {
        let budget = Arc::new(Budget::default());
        let mut leases = Vec::new();
        for id in 0..4 {
            leases.push(budget.allowance(Holder::User(id)).lease(USER).await.unwrap());
        }
        assert_eq!(free(&budget), 0);
        assert!(budget.allowance(Holder::User(9)).lease(USER).await.is_err());
        leases.pop();
        budget.allowance(Holder::User(9)).lease(USER).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn allowances_that_nobody_uses_are_forgotten() {
        let budget = Arc::new(Budget::default());
        let held = budget.allowance(Holder::User(-1)).lease(USER).await.unwrap();
        for id in 0..10 * i64::try_from(PRUNE_AT).unwrap() {
            budget.allowance(Holder::User(id)).lease(SMALL + 1).await.unwrap();
        }
        assert!(budget.allowances.lock().unwrap().len() <= PRUNE_AT);
        assert!(budget.allowance(Holder::User(-1)).lease(SMALL + 1).await.is_err());
        drop(held);
    }
}
