//! Passwords: bcrypt on threads of its own, behind a queue that is bounded by time, so that a flood
//! of logins can neither slow a read nor pile up.

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

/// bcrypt cuts what is longer.
pub const MAX_BYTES: usize = 71;
/// How long all places in the queue take to be served when nothing else is to be done.
const QUEUE_TIME: Duration = Duration::from_secs(5);
/// How long a request may wait for its turn and for a thread, both together.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// How much less the threads count than those that serve requests (`setpriority`, nice value).
const NICENESS: i32 = 19;
/// How many seconds a client that finds no place is told to wait at least, and how many different
/// waits there are: clients that all came back at once would be a burst of their own.
const RETRY_AFTER: u32 = 5;
const RETRY_SPREAD: u32 = 26;
/// A stored hash that costs more is refused: cost 31 would take days.
const MAX_COST: u32 = 14;
/// What the time of a hash is taken with at the start, at most the cost in use.
const CALIBRATION_COST: u32 = 4;
/// How often it is taken.
const CALIBRATIONS: u32 = 5;

/// The threads that hash and their queue.
pub struct Passwords {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    refused: AtomicU32,
    cost: u32,
}

struct Job {
    run: Box<dyn FnOnce(bool) + Send>,
    deadline: Instant,
    /// Held until the job has run, whether or not its request still waits.
    _place: Arc<OwnedSemaphorePermit>,
}

/// Whether a password was right.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right {
        /// A hash to store in place of one that costs less than new ones do.
        better_hash: Option<String>,
    },
}

/// A place in the queue, for one job after another.
pub struct Place<'a> {
    passwords: &'a Passwords,
    permit: Arc<OwnedSemaphorePermit>,
    deadline: Instant,
}

impl Passwords {
    /// Starts half as many threads as there are cores, at least one. New hashes have this cost.
    pub fn start(cost: u32) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = (cores / 2).max(1);
        // A cheap hash tells the time of a dear one, which doubles with every step of the cost.
        let time = time_of_a_hash(CALIBRATION_COST)
            * 2_u32.saturating_pow(cost.saturating_sub(CALIBRATION_COST));
        let waiting = usize::try_from(QUEUE_TIME.as_nanos() / time.as_nanos()).unwrap_or(1);
        let places = threads * waiting.clamp(1, 100_000);

        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("bcrypt".into())
                .spawn(move || work(&queue))
                .map_err(|error| Error::internal(format!("no thread: {error}")))?;
        }
        let (places, refused) = (Arc::new(Semaphore::new(places)), AtomicU32::new(0));
        Ok(Self { jobs, places, refused, cost })
    }

    /// A place in the queue, or [`Error::Overloaded`] at once. To be taken before anything that a
    /// flood could make expensive. A job that no thread has begun by the deadline is not run.
    pub fn reserve(&self, deadline: Instant) -> Result<Place<'_>> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.overloaded())?;
        Ok(Place { passwords: self, permit: Arc::new(permit), deadline })
    }

    pub fn overloaded(&self) -> Error {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed);
        Error::Overloaded { retry_after: RETRY_AFTER + refused % RETRY_SPREAD }
    }
}

impl Place<'_> {
    /// Hashes a new password.
    pub async fn hash(&self, password: String) -> Result<String> {
        let cost = self.passwords.cost;
        self.run(move || hash(&password, cost)).await?
    }

    /// Whether a password fits a stored hash; without one it takes as long and does not.
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

    /// Whether a password fits a stored hash, and if so, the hash of another.
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

    /// Runs a job in its turn. [`Error::Overloaded`] if that does not come in time.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |in_time: bool| {
            // The request may be gone.
            let _ = answer.send(in_time.then(job));
        });
        let job = Job { run, deadline: self.deadline, _place: Arc::clone(&self.permit) };
        let ended = |_| Error::internal("the password threads have ended");
        self.passwords.jobs.send(job).map_err(ended)?;
        let answered = answered.await;
        answered
            .map_err(|_| Error::internal("a password thread has failed"))?
            .ok_or_else(|| self.passwords.overloaded())
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    // Where the system does not allow it, hashing is merely as important as the rest.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => (job.run)(Instant::now() <= job.deadline),
            Err(_) => return,
        }
    }
}

/// A new hash with a new salt. It takes 2 to the power of `cost` rounds of this thread.
pub fn hash(password: &str, cost: u32) -> Result<String> {
    non_truncating_hash(password, cost).map_err(|error| Error::internal(format!("bcrypt: {error}")))
}

/// Whether a password fits a stored hash. If not, it has taken as many rounds as a new hash does,
/// whatever was compared: so the time does not tell whether there was a hash, nor what it costs.
/// A hash that costs more than new ones do still takes longer.
fn check(password: &str, stored: Option<&str>, cost: u32) -> bool {
    let usable = |hash: &&str| cost_of(hash).is_some_and(|cost| cost <= MAX_COST);
    if stored.is_some_and(|hash| !usable(&hash)) {
        tracing::error!("a stored password hash is not one of ours or costs too much");
    }
    // No password with a NUL or over the limit was ever set; bcrypt would stop at the one, and does
    // not compute the other.
    let possible = password.len() <= MAX_BYTES && !password.contains('\0');
    let compared = stored.filter(usable).filter(|_| possible);
    let right = compared.is_some_and(|hash| non_truncating_verify(password, hash).unwrap_or(false));
    if !right {
        costs_to_spend(compared.and_then(cost_of), cost).for_each(spend);
    }
    right
}

/// What is computed besides a hash of the cost `compared`, so that there are 2 to the power of `cost`
/// rounds in all: 2^c + (2^c + 2^(c+1) + ... + 2^(cost-1)) = 2^cost.
fn costs_to_spend(compared: Option<u32>, cost: u32) -> Range<u32> {
    match compared {
        Some(compared) => compared..cost,
        None => cost..cost + 1,
    }
}

/// How long a hash of this cost takes while nothing interrupts it: the least of a few times.
fn time_of_a_hash(cost: u32) -> Duration {
    let times = (0..CALIBRATIONS).map(|_| {
        let started = Instant::now();
        spend(cost);
        started.elapsed()
    });
    times.min().unwrap_or_default().max(Duration::from_micros(1))
}

/// Takes as long as a hash of this cost.
fn spend(cost: u32) {
    // Else the compiler might leave out what nobody looks at.
    let _ = black_box(non_truncating_hash("", cost));
}

/// The binary logarithm of the rounds of a hash. None if the text is no bcrypt hash.
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
        let long = "x".repeat(MAX_BYTES);
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
    async fn a_full_queue_refuses_at_once_and_a_request_that_leaves_loses_no_place() {
        let mut passwords = Passwords::start(COST).unwrap();
        passwords.places = Arc::new(Semaphore::new(1));
        let deadline = Instant::now() + SOON;
        let place = passwords.reserve(deadline).unwrap();
        assert!(matches!(passwords.reserve(deadline), Err(Error::Overloaded { .. })));
        drop(place.hash("password".into()));
        drop(place);
        assert!(passwords.reserve(deadline).is_ok());
    }

    #[tokio::test]
    async fn a_place_is_good_for_one_job_after_another() {
        let mut passwords = Passwords::start(COST).unwrap();
        passwords.places = Arc::new(Semaphore::new(1));
        let place = passwords.reserve(Instant::now() + SOON).unwrap();
        let stored = place.hash("a".into()).await.unwrap();
        let right = Verdict::Right { better_hash: None };
        assert_eq!(place.verify("a".into(), Some(stored.clone())).await.unwrap(), right);
        assert_eq!(place.verify("b".into(), Some(stored)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_not_run() {
        let passwords = Passwords::start(COST).unwrap();
        let now = Instant::now();
        let place = passwords.reserve(now + SOON).unwrap();
        assert!(place.hash("password".into()).await.is_ok());
        let place = passwords.reserve(now).unwrap();
        let late = place.hash("password".into()).await;
        assert!(matches!(late, Err(Error::Overloaded { .. })));
    }
}
