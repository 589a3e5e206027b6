//! How many bytes the service holds for its clients at once: bodies of requests while they are read,
//! and bodies of answers from before they are fetched until they are written. A client that reads
//! slowly, or not at all, may keep others waiting for no more than its user's allowance.
//!
//! Most bodies are small and are not counted. A larger one is paid for before it is fetched: where
//! there is no room for it, its request waits for its turn, and is refused when that takes too long.
//! Whoever waits holds nothing that another might be waiting for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// A body of up to this many bytes is not counted.
pub const SMALL: usize = 4 << 10;

/// What all others come to at most, in bytes, in the whole process.
const TOTAL: usize = 12 << 20;
/// What those of one user come to at most.
const USER: usize = TOTAL / 4;
/// What those without a user come to at most.
const ANYONE: usize = 1 << 20;
/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// How many requests of one holder wait at most; what comes then is refused at once.
const MAX_WAITING: usize = 32;
/// How many requests wait at most in all. Each takes some 16 KiB.
const MAX_WAITING_IN_ALL: usize = 512;
/// Allowances that nobody uses are forgotten when there are this many.
const MANY_HOLDERS: usize = 1024;

/// Whose body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    User(i64),
    /// Whoever has shown no token.
    Anyone,
}

/// Of the whole process. A permit is a byte.
pub struct Budget {
    total: Arc<Semaphore>,
    /// A permit is a request that may wait.
    waiting: Semaphore,
    allowances: Mutex<HashMap<Holder, Arc<Own>>>,
}

/// What one holder has.
struct Own {
    bytes: Arc<Semaphore>,
    waiting: Semaphore,
}

/// A holder's way to the budget.
#[derive(Clone)]
pub struct Allowance {
    budget: Arc<Budget>,
    holder: Holder,
}

/// Bytes that may be held, until it is dropped.
#[derive(Debug, Default)]
pub struct Lease(Option<Counted>);

/// The same number of permits of both.
#[derive(Debug)]
struct Counted {
    of_holder: OwnedSemaphorePermit,
    of_total: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            total: Arc::new(Semaphore::new(TOTAL)),
            waiting: Semaphore::new(MAX_WAITING_IN_ALL),
            allowances: Mutex::default(),
        }
    }
}

impl Budget {
    pub fn allowance(self: &Arc<Self>, holder: Holder) -> Allowance {
        Allowance { budget: Arc::clone(self), holder }
    }

    /// What one holder has, which lives as long as anybody uses it.
    fn of(&self, holder: Holder) -> Arc<Own> {
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        if allowances.len() >= MANY_HOLDERS && !allowances.contains_key(&holder) {
            allowances.retain(|_, own| Arc::strong_count(own) > 1 || own.is_used());
        }
        let allowance = allowances.entry(holder).or_insert_with(|| {
            let bytes = if holder == Holder::Anyone { ANYONE } else { USER };
            let bytes = Arc::new(Semaphore::new(bytes));
            Arc::new(Own { bytes, waiting: Semaphore::new(MAX_WAITING) })
        });
        Arc::clone(allowance)
    }
}

impl Allowance {
    /// Room for so many bytes of a request, as soon as there is; [`Error::Overloaded`] if that takes too
    /// long, or too many wait already.
    pub async fn lease(&self, bytes: usize) -> Result<Lease> {
        let mut lease = Lease::default();
        if self.extend(&mut lease, bytes) {
            return Ok(lease);
        }
        let own = self.budget.of(self.holder);
        let _waiting = own.waiting.try_acquire().map_err(|_| full())?;
        let _in_all = self.budget.waiting.try_acquire().map_err(|_| full())?;
        self.wait(WAIT, &own, bytes).await
    }

    /// Room for the next part of an answer that has begun. It takes little to wait for it.
    pub async fn next_lease(&self, wait: Duration, bytes: usize) -> Result<Lease> {
        self.wait(wait, &self.budget.of(self.holder), bytes).await
    }

    async fn wait(&self, wait: Duration, own: &Own, bytes: usize) -> Result<Lease> {
        let counted = timeout(wait, Counted::wait(&own.bytes, &self.budget.total, bytes)).await;
        Ok(Lease(Some(counted.map_err(|_| full())??)))
    }

    /// Extends a lease to so many bytes if there is room right now. Tells whether it covers them.
    pub fn extend(&self, lease: &mut Lease, bytes: usize) -> bool {
        if lease.covers(bytes) {
            return true;
        }
        let more = bytes - lease.counted();
        let own = self.budget.of(self.holder);
        let Some(counted) = Counted::now(&own.bytes, &self.budget.total, more) else {
            return false;
        };
        match &mut lease.0 {
            Some(before) => before.merge(counted),
            none => *none = Some(counted),
        }
        true
    }

    /// Has a lease cover so many bytes, or refuses them.
    pub fn cover(&self, lease: &mut Lease, bytes: usize) -> Result<()> {
        if self.extend(lease, bytes) { Ok(()) } else { Err(full()) }
    }
}

fn full() -> Error {
    Error::Overloaded { retry_after: 1 }
}

impl Own {
    /// Whether a lease is out, which holds the semaphore.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.bytes) > 1
    }
}

impl Counted {
    fn now(own: &Arc<Semaphore>, total: &Arc<Semaphore>, bytes: usize) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        let of_holder = Arc::clone(own).try_acquire_many_owned(bytes).ok()?;
        let of_total = Arc::clone(total).try_acquire_many_owned(bytes).ok()?;
        Some(Self { of_holder, of_total })
    }

    /// The holder's own first, so that whoever waits for the rest holds no more than that.
    async fn wait(own: &Arc<Semaphore>, total: &Arc<Semaphore>, bytes: usize) -> Result<Self> {
        let bytes = u32::try_from(bytes).map_err(|_| full())?;
        let of_holder = Arc::clone(own).acquire_many_owned(bytes).await.map_err(|_| full())?;
        let of_total = Arc::clone(total).acquire_many_owned(bytes).await.map_err(|_| full())?;
        Ok(Self { of_holder, of_total })
    }

    fn merge(&mut self, other: Self) {
        self.of_holder.merge(other.of_holder);
        self.of_total.merge(other.of_total);
    }
}

impl Lease {
    fn counted(&self) -> usize {
        self.0.as_ref().map_or(0, |counted| counted.of_total.num_permits())
    }

    /// Whether so many bytes may be held.
    pub fn covers(&self, bytes: usize) -> bool {
        bytes <= SMALL.max(self.counted())
    }

    /// Gives back what goes beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes <= SMALL {
            self.0 = None;
        }
        let surplus = self.counted().saturating_sub(bytes);
        if let Some(counted) = &mut self.0 {
            drop(counted.of_holder.split(surplus));
            drop(counted.of_total.split(surplus));
        }
    }

    /// Ties the lease to bytes that it covers: it ends when they are dropped.
    pub fn keep(mut self, bytes: Bytes) -> Bytes {
        self.shrink(bytes.len());
        match self.0 {
            Some(counted) => Bytes::from_owner(Kept { bytes, _counted: counted }),
            None => bytes,
        }
    }
}

struct Kept {
    bytes: Bytes,
    _counted: Counted,
}

impl AsRef<[u8]> for Kept {
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
    async fn what_is_small_is_not_counted() {
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
    async fn one_holder_waits_for_his_own_and_no_other_for_him() {
        let budget = Arc::new(Budget::default());
        let [ada, eve] = [1, 2].map(|id| budget.allowance(Holder::User(id)));
        let all = ada.lease(USER).await.unwrap();
        let started = Instant::now();
        assert!(matches!(ada.lease(SMALL + 1).await, Err(Error::Overloaded { .. })));
        assert_eq!(started.elapsed(), WAIT);
        eve.lease(USER).await.unwrap();
        assert_eq!(started.elapsed(), WAIT);
        let waiting = tokio::spawn(async move { ada.lease(USER).await });
        tokio::task::yield_now().await;
        drop(all);
        waiting.await.unwrap().unwrap();
        assert_eq!(free(&budget), TOTAL);
    }

    #[tokio::test(start_paused = true)]
    async fn few_requests_of_a_holder_wait_and_the_rest_is_refused_at_once() {
        let budget = Arc::new(Budget::default());
        let allowance = budget.allowance(Holder::User(1));
        let _all = allowance.lease(USER).await.unwrap();
        let started = Instant::now();
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let allowance = allowance.clone();
                tokio::spawn(async move { allowance.lease(USER).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(allowance.lease(USER).await.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
        // The part of an answer that has begun is not.
        assert!(allowance.next_lease(3 * WAIT, USER).await.is_err());
        assert_eq!(started.elapsed(), 3 * WAIT);
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
        for id in 0..10 * i64::try_from(MANY_HOLDERS).unwrap() {
            budget.allowance(Holder::User(id)).lease(SMALL + 1).await.unwrap();
        }
        assert!(budget.allowances.lock().unwrap().len() <= MANY_HOLDERS);
        assert!(budget.allowance(Holder::User(-1)).lease(SMALL + 1).await.is_err());
        drop(held);
    }
}
