//! Passwords: bcrypt on dedicated threads, behind a queue that is bounded by time, so that a flood
//! of logins neither slows other requests nor piles up.

use std::hint::black_box;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bcrypt::{HashParts, non_truncating_hash, non_truncating_verify};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Result};
use crate::models::rules::MAX_PASSWORD_BYTES;

/// How long a full queue takes to be served on idle cores.
const QUEUE_TIME: Duration = Duration::from_secs(5);
/// How long a login may wait for its lock and for a thread, in total.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// The nice value (`setpriority`) of the threads, so that they yield to those that serve requests.
const NICENESS: i32 = 19;
/// `Retry-After` when the queue is full, in seconds, and how many different values there are:
/// clients that all came back at once would be a burst of their own.
const RETRY_AFTER: u32 = 5;
const RETRY_SPREAD: u32 = 26;
/// Stored hashes of a higher cost are refused: cost 31 would take days.
const MAX_COST: u32 = 14;
/// The low cost that the time of a hash is measured with at start.
const CALIBRATION_COST: u32 = 4;
/// How often it is measured.
const CALIBRATIONS: u32 = 5;

/// The hashing threads and their queue.
pub struct Passwords {
    jobs: Sender<Job>,
    permits: Arc<Semaphore>,
    /// The most permits.
    capacity: usize,
    refused: AtomicU32,
    cost: u32,
}

struct Job {
    run: Box<dyn FnOnce(bool) + Send>,
    deadline: Instant,
    /// Held until the job has run, even if its request was cancelled.
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The result of comparing a password.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right {
        /// A new hash to store, if the stored one has a lower cost than new hashes.
        better_hash: Option<String>,
    },
}

/// A place in the queue, for one job after another.
pub struct Permit<'a> {
    passwords: &'a Passwords,
    slot: Arc<OwnedSemaphorePermit>,
    deadline: Instant,
}

impl Passwords {
    /// Starts one thread for every two cores, at least one. New hashes have this cost.
    pub fn start(cost: u32) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = (cores / 2).max(1);
        // Extrapolate from a low-cost hash: each step of the cost doubles the time.
        let time = hash_time(CALIBRATION_COST)
            * 2_u32.saturating_pow(cost.saturating_sub(CALIBRATION_COST));
        let jobs_per_thread = usize::try_from(QUEUE_TIME.as_nanos() / time.as_nanos()).unwrap_or(1);
        let permits = threads * jobs_per_thread.clamp(1, 100_000);

        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("bcrypt".into())
                .spawn(move || work(&queue))
                .map_err(|error| Error::internal(format!("no thread: {error}")))?;
        }
        let (capacity, refused) = (permits, AtomicU32::new(0));
        Ok(Self { jobs, permits: Arc::new(Semaphore::new(capacity)), capacity, refused, cost })
    }

    /// How many have a place in the queue, and how many may.
    pub fn queue(&self) -> (usize, usize) {
        (self.capacity.saturating_sub(self.permits.available_permits()), self.capacity)
    }

    /// How many found the queue full, or waited until their deadline.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed).into()
    }

    /// A permit for the queue, or [`Error::Overloaded`] at once. Acquire it before any work that
    /// would be expensive in a flood. A job that has not started by the deadline is not run.
    pub fn try_acquire(&self, deadline: Instant) -> Result<Permit<'_>> {
        let permit =
            Arc::clone(&self.permits).try_acquire_owned().map_err(|_| self.overloaded())?;
        Ok(Permit { passwords: self, slot: Arc::new(permit), deadline })
    }

    pub fn overloaded(&self) -> Error {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed);
        Error::Overloaded { retry_after: RETRY_AFTER + refused % RETRY_SPREAD }
    }
}

impl Permit<'_> {
    /// Hashes a new password.
    pub async fn hash(&self, password: String) -> Result<String> {
        let cost = self.passwords.cost;
        self.run(move || hash(&password, cost)).await?
    }

    /// Compares a password with a stored hash. Without one it takes as long, and the result is
    /// [`Verdict::Wrong`].
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<Verdict> {
        let cost = self.passwords.cost;
        self.run(move || {
            if !check(&password, stored.as_deref(), cost) {
                return Ok(Verdict::Wrong);
            }
            let outdated = stored.is_some_and(|stored| cost_of(&stored) < Some(cost));
            let better_hash = if outdated { Some(hash(&password, cost)?) } else { None };
            Ok(Verdict::Right { better_hash })
        })
        .await?
    }

    /// The hash of a new password, if the current one matches the stored hash.
    pub async fn replace(
        &self,
        current: String,
        stored: String,
        new: String,
    ) -> Result<Option<String>> {
        let cost = self.passwords.cost;
        self.run(move || check(&current, Some(&stored), cost).then(|| hash(&new, cost)).transpose())
            .await?
    }

    /// Queues a job and waits for its result. [`Error::Overloaded`] if it has not started by the
    /// deadline.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |in_time: bool| {
            // The request may have been cancelled.
            let _ = answer.send(in_time.then(job));
        });
        let job = Job { run, deadline: self.deadline, _permit: Arc::clone(&self.slot) };
        let ended = |_| Error::internal("the password threads have ended");
        self.passwords.jobs.send(job).map_err(ended)?;
        let answered = answered.await;
        answered
            .map_err(|_| Error::internal("a password thread has failed"))?
            .ok_or_else(|| self.passwords.overloaded())
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    // If this is not permitted, hashing merely competes with other threads.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => (job.run)(Instant::now() <= job.deadline),
            Err(_) => return,
        }
    }
}

/// A hash with a new salt. It takes 2^`cost` rounds on this thread.
pub fn hash(password: &str, cost: u32) -> Result<String> {
    non_truncating_hash(password, cost).map_err(|error| Error::internal(format!("bcrypt: {error}")))
}

/// Whether a password matches a stored hash. A mismatch takes as many rounds as a new hash,
/// whatever was compared, so that timing reveals neither whether there was a hash nor its cost. A
/// hash of a higher cost than new ones still takes longer.
fn check(password: &str, stored: Option<&str>, cost: u32) -> bool {
    let usable = |hash: &&str| cost_of(hash).is_some_and(|cost| cost <= MAX_COST);
    if stored.is_some_and(|hash| !usable(&hash)) {
        tracing::error!("a stored password hash is not one of ours or costs too much");
    }
    // No stored password contains a NUL or exceeds the limit; bcrypt would stop at a NUL, and
    // refuses to compute the latter.
    let possible = password.len() <= MAX_PASSWORD_BYTES && !password.contains('\0');
    let compared = stored.filter(usable).filter(|_| possible);
    let right = compared.is_some_and(|hash| non_truncating_verify(password, hash).unwrap_or(false));
    if !right {
        costs_to_spend(compared.and_then(cost_of), cost).for_each(spend);
    }
    right
}

/// The costs to compute in addition to a hash of cost `compared`, so that there are 2^`cost` rounds
/// in total: 2^c + (2^c + 2^(c+1) + ... + 2^(cost-1)) = 2^cost.
fn costs_to_spend(compared: Option<u32>, cost: u32) -> Range<u32> {
    match compared {
        Some(compared) => compared..cost,
        None => cost..cost + 1,
    }
}

/// How long a hash of this cost takes without interruption: the minimum of a few measurements.
fn hash_time(cost: u32) -> Duration {
    let times = (0..CALIBRATIONS).map(|_| {
        let started = Instant::now();
        spend(cost);
        started.elapsed()
    });
    times.min().unwrap_or_default().max(Duration::from_micros(1))
}

/// Computes a hash of this cost.
fn spend(cost: u32) {
    // Keeps the compiler from removing an unused result.
    let _ = black_box(non_truncating_hash("", cost));
}

/// The cost of a hash, the binary logarithm of its rounds. None if the text is no bcrypt hash.
fn cost_of(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|hash| hash.get_cost())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const COST: u32 = 4;
    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_whole_password_fits() {
        let long = "x".repeat(MAX_PASSWORD_BYTES);
        let stored = hash(&long, COST).unwrap();
        assert!(check(&long, Some(&stored), COST));
        assert!(!check(&format!("{long}x"), Some(&stored), COST));
        assert!(!check(&long[1..], Some(&stored), COST));
        assert!(hash(&format!("{long}x"), COST).is_err());

        let stored = hash("a", COST).unwrap();
        assert!(!check("a\0a", Some(&stored), COST));
        assert!(!check("dummy", None, COST));
    }

    #[test]
    fn a_wrong_password_takes_the_rounds_of_a_new_hash_whatever_it_was_compared_with() {
        let rounds = |cost: u32| 1_u64 << cost;
        for cost in COST..=MAX_COST {
            let unknown: u64 = costs_to_spend(None, cost).map(rounds).sum();
            assert_eq!(unknown, rounds(cost));
            for compared in COST..=cost {
                let spent: u64 = costs_to_spend(Some(compared), cost).map(rounds).sum();
                assert_eq!(rounds(compared) + spent, rounds(cost), "{compared} of {cost}");
            }
        }
        assert_eq!(costs_to_spend(Some(MAX_COST), COST).count(), 0);
    }

    #[test]
    fn what_is_no_hash_or_costs_absurdly_much_fits_nothing_at_once() {
        let absurd = hash("a", COST).unwrap().replacen("$04$", "$31$", 1);
        let started = Instant::now();
        for wrong in ["", "x", "$2b$04$", "$2b$04$aaaaaaaaaaaaaaaaaaaaaa", &absurd] {
            assert!(!check("a", Some(wrong), COST), "{wrong}");
        }
        assert!(started.elapsed() < Duration::from_secs(60), "cost 31 would take days");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_cancelled_request_leaks_no_permit() {
        let mut passwords = Passwords::start(COST).unwrap();
        passwords.permits = Arc::new(Semaphore::new(1));
        let deadline = Instant::now() + SOON;
        let permit = passwords.try_acquire(deadline).unwrap();
        assert!(matches!(passwords.try_acquire(deadline), Err(Error::Overloaded { .. })));
        drop(permit.hash("password".into()));
        drop(permit);
        assert!(passwords.try_acquire(deadline).is_ok());
    }

    #[tokio::test]
    async fn a_permit_covers_one_job_after_another() {
        let mut passwords = Passwords::start(COST).unwrap();
        passwords.permits = Arc::new(Semaphore::new(1));
        let permit = passwords.try_acquire(Instant::now() + SOON).unwrap();
        let stored = permit.hash("a".into()).await.unwrap();
        let right = Verdict::Right { better_hash: None };
        assert_eq!(permit.verify("a".into(), Some(stored.clone())).await.unwrap(), right);
        assert_eq!(permit.verify("b".into(), Some(stored)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_job_past_its_deadline_is_not_run() {
        let passwords = Passwords::start(COST).unwrap();
        let now = Instant::now();
        let permit = passwords.try_acquire(now + SOON).unwrap();
        assert!(permit.hash("password".into()).await.is_ok());
        let permit = passwords.try_acquire(now).unwrap();
        let late = permit.hash("password".into()).await;
        assert!(matches!(late, Err(Error::Overloaded { .. })));
    }
}
