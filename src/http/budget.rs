//! A budget of the bytes held for clients: request bodies while they are read, and response bodies
//! from before their rows are fetched until they are written. A client that reads slowly, or not at
//! all, ties up no more than its holder's part.
//!
//! Small bodies are not counted. Larger ones are accounted for before they are read or fetched: if
//! there is no room, the request queues, and is refused after a timeout. A queued request holds
//! nothing that another might be waiting for, so a body is accounted for whole before its first
//! byte: half-read bodies could wait for each other.
//!
//! A fixed part for each holder would let a few of them take everything between them. So one has at
//! most a third of what is still free, and once a third of the budget is taken no more than `BASE`.
//! The first thus gets a quarter of the budget, and however early and greedily 20 others come, the
//! next one still gets `BASE` at once.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Bodies up to this size are not counted, in bytes.
pub const SMALL: usize = 4 << 10;

/// The bytes of all bodies, in the whole process.
const BODIES: usize = 12 << 20;
/// The bytes of all requests without a user together.
const ANYONE: usize = 1 << 20;
/// A holder has at most what is free divided by this.
const SHARE: usize = 3;
/// What a holder may have when much of the budget is taken, in bytes: enough to change the largest
/// patient, whose body and what is parsed from it take 200 KiB, and the response 112.
const BASE: usize = 320 << 10;
/// How long a request is queued.
const WAIT_TIMEOUT: Duration = Duration::from_millis(1500);
/// The longest queue of one holder; further requests are refused at once.
const MAX_WAITING_PER_HOLDER: usize = 32;
/// The most queued requests in total. Each takes some 16 KiB.
const MAX_WAITING: usize = 512;
/// Unused accounts are removed when there are this many.
const PRUNE_AT: usize = 1024;

/// Whose bytes are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    User(i64),
    /// Requests without a token.
    Anyone,
    /// Requests whose head is not complete, by the network that they come from.
    Network(IpAddr),
}

/// The bytes that all holders may have together, and who has how many.
pub struct Budget {
    accounts: Mutex<Accounts>,
    /// Wakes those that wait for bytes of others.
    released: Notify,
    /// One permit is one queued request.
    waiting: Semaphore,
}

struct Accounts {
    total: usize,
    free: usize,
    holders: HashMap<Holder, Account>,
}

/// What one holder has.
struct Account {
    bytes: usize,
    queue: Arc<Queue>,
}

/// The requests of one holder that wait for room. Only the first of them is woken when bytes are
/// released.
struct Queue {
    first: tokio::sync::Mutex<()>,
    /// One permit is one queued request.
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
pub struct Lease(Option<Held>);

/// Bytes that are counted, until dropped.
#[derive(Debug)]
struct Held {
    allowance: Allowance,
    bytes: usize,
}

impl Default for Budget {
    /// The budget of bodies.
    fn default() -> Self {
        Self::new(BODIES)
    }
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self {
            accounts: Mutex::new(Accounts { total: bytes, free: bytes, holders: HashMap::new() }),
            released: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    pub fn allowance(self: &Arc<Self>, holder: Holder) -> Allowance {
        Allowance { budget: Arc::clone(self), holder }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// The account of a holder, which is kept while it is used.
    fn of(&mut self, holder: Holder) -> &mut Account {
        if self.holders.len() >= PRUNE_AT && !self.holders.contains_key(&holder) {
            self.holders.retain(|_, account| account.bytes > 0 || account.has_queue());
        }
        self.holders.entry(holder).or_insert_with(Account::new)
    }

    /// Counts bytes for a holder if it may have them.
    fn take(&mut self, holder: Holder, bytes: usize) -> bool {
        let Some(left) = self.free.checked_sub(bytes) else { return false };
        let mut most = left / SHARE;
        if self.total - left > self.total / SHARE {
            most = most.min(BASE);
        }
        if holder == Holder::Anyone {
            most = most.min(ANYONE);
        }
        let account = self.of(holder);
        if account.bytes + bytes > most {
            return false;
        }
        account.bytes += bytes;
        self.free = left;
        true
    }

    fn release(&mut self, holder: Holder, bytes: usize) {
        self.of(holder).bytes -= bytes;
        self.free += bytes;
    }
}

impl Account {
    fn new() -> Self {
        let waiting = Semaphore::new(MAX_WAITING_PER_HOLDER);
        Self { bytes: 0, queue: Arc::new(Queue { first: tokio::sync::Mutex::default(), waiting }) }
    }

    /// Whether requests wait, which share the queue.
    fn has_queue(&self) -> bool {
        Arc::strong_count(&self.queue) > 1
    }
}

impl Allowance {
    /// Waits for a lease on `bytes`. [`Error::Overloaded`] after `WAIT_TIMEOUT`, or at once if a
    /// queue is full.
    pub async fn lease(&self, bytes: usize) -> Result<Lease> {
        if bytes <= SMALL {
            return Ok(Lease::default());
        }
        let queue = {
            let mut accounts = self.budget.accounts();
            // Behind those that wait already.
            if !accounts.of(self.holder).has_queue() && accounts.take(self.holder, bytes) {
                return Ok(self.held(bytes));
            }
            Arc::clone(&accounts.of(self.holder).queue)
        };
        let _waiting = queue.waiting.try_acquire().map_err(|_| full())?;
        let _in_total = self.budget.waiting.try_acquire().map_err(|_| full())?;
        self.wait(WAIT_TIMEOUT, &queue, bytes).await
    }

    /// Waits for a lease for the next chunk of a response that has started. It counts in no queue,
    /// because waiting costs little memory.
    pub async fn next_lease(&self, wait: Duration, bytes: usize) -> Result<Lease> {
        let queue = Arc::clone(&self.budget.accounts().of(self.holder).queue);
        self.wait(wait, &queue, bytes).await
    }

    async fn wait(&self, wait: Duration, queue: &Queue, bytes: usize) -> Result<Lease> {
        let waiting = async {
            let _first = queue.first.lock().await;
            loop {
                // Created before the attempt, so that no release in between is missed.
                let released = self.budget.released.notified();
                if self.budget.accounts().take(self.holder, bytes) {
                    return self.held(bytes);
                }
                released.await;
            }
        };
        timeout(wait, waiting).await.map_err(|_| full())
    }

    fn held(&self, bytes: usize) -> Lease {
        Lease(Some(Held { allowance: self.clone(), bytes }))
    }

    /// Extends a lease to `bytes` if there is room right now. True if it covers them.
    pub fn extend(&self, lease: &mut Lease, bytes: usize) -> bool {
        if lease.covers(bytes) {
            return true;
        }
        let more = bytes - lease.bytes();
        if !self.budget.accounts().take(self.holder, more) {
            return false;
        }
        match &mut lease.0 {
            Some(held) => held.bytes += more,
            none => *none = self.held(more).0,
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

impl Held {
    /// Releases what exceeds `bytes`.
    fn shrink(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.bytes -= surplus;
            let Allowance { budget, holder } = &self.allowance;
            budget.accounts().release(*holder, surplus);
            budget.released.notify_waiters();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Lease {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.bytes)
    }

    /// Whether `bytes` may be held.
    pub fn covers(&self, bytes: usize) -> bool {
        bytes <= SMALL.max(self.bytes())
    }

    /// Releases what exceeds `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes <= SMALL {
            self.0 = None;
        }
        if let Some(held) = &mut self.0 {
            held.shrink(bytes);
        }
    }

    /// Ties the lease to bytes that it covers: it ends when the last copy of them is dropped.
    pub fn keep(mut self, bytes: Bytes) -> Bytes {
        self.shrink(bytes.len());
        match self.0 {
            Some(held) => Bytes::from_owner(LeasedBytes { bytes, _held: held }),
            None => bytes,
        }
    }
}

struct LeasedBytes {
    bytes: Bytes,
    _held: Held,
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
mod tests;
