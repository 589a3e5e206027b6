//! Passwords: bcrypt on threads of its own, behind a queue that is bounded by time, so that a flood
//! of logins can neither slow a read nor pile up.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::hash::{MAX_BYTES, cost_of, hash, verify};
use crate::error::{Error, Result};

/// How long all places in the queue take to be served when nothing else is to be done.
const QUEUE_TIME: Duration = Duration::from_secs(5);
/// How long a job may wait when much else is to be done, until its client is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(10);
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

/// The threads that hash and their queue.
pub struct Passwords {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    refused: AtomicU32,
    /// Rises with every request.
    requests: Arc<AtomicU64>,
    cost: u32,
    /// A hash that no password matches, for accounts that do not exist.
    dummy: Arc<str>,
}

struct Job {
    run: Box<dyn FnOnce(bool) + Send>,
    since: Instant,
    /// Given back when the job has run, whether or not its request still waits.
    _place: OwnedSemaphorePermit,
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

/// A place in the queue.
pub struct Place<'a> {
    passwords: &'a Passwords,
    permit: OwnedSemaphorePermit,
}

impl Passwords {
    /// Starts half as many threads as there are cores, at least one. `requests` rises with every
    /// request, for which they make way.
    pub fn start(cost: u32, requests: Arc<AtomicU64>) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = (cores / 2).max(1);
        // A cheap hash tells the time of a dear one, which doubles with every step of the cost.
        let started = Instant::now();
        hash("how long does this take", CALIBRATION_COST, &requests)?;
        let time = started.elapsed().max(Duration::from_micros(1))
            * 2_u32.saturating_pow(cost.saturating_sub(CALIBRATION_COST));
        let dummy = dummy_hash(cost)?;
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
        Ok(Self { jobs, places, refused, requests, cost, dummy: dummy.into() })
    }

    /// A place in the queue, or [`Error::Overloaded`] at once. To be taken before anything that a
    /// flood could make expensive.
    pub fn reserve(&self) -> Result<Place<'_>> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.overloaded())?;
        Ok(Place { passwords: self, permit })
    }

    fn overloaded(&self) -> Error {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed);
        Error::Overloaded { retry_after: RETRY_AFTER + refused % RETRY_SPREAD }
    }
}

impl Place<'_> {
    /// Hashes a new password.
    pub async fn hash(self, password: String) -> Result<String> {
        let cost = self.passwords.cost;
        self.run(move |requests| hash(&password, cost, requests)).await?
    }

    /// Whether a password fits a stored hash; without one it takes as long and does not.
    pub async fn verify(self, password: String, stored: Option<String>) -> Result<Verdict> {
        let dummy = Arc::clone(&self.passwords.dummy);
        let cost = self.passwords.cost;
        self.run(move |requests| {
            if !check(&password, stored.as_deref(), &dummy, requests) {
                return Ok(Verdict::Wrong);
            }
            let outdated = stored.is_some_and(|stored| cost_of(&stored) < Some(cost));
            let better_hash = if outdated { Some(hash(&password, cost, requests)?) } else { None };
            Ok(Verdict::Right { better_hash })
        })
        .await?
    }

    /// Whether a password fits a stored hash, and if so, the hash of another.
    pub async fn replace(
        self,
        current: String,
        stored: String,
        new: String,
    ) -> Result<Option<String>> {
        let dummy = Arc::clone(&self.passwords.dummy);
        let cost = self.passwords.cost;
        self.run(move |requests| {
            let right = check(&current, Some(&stored), &dummy, requests);
            right.then(|| hash(&new, cost, requests)).transpose()
        })
        .await?
    }

    /// Runs a job in its turn. [`Error::Overloaded`] if that does not come in time.
    async fn run<T: Send + 'static>(
        self,
        job: impl FnOnce(&AtomicU64) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let requests = Arc::clone(&self.passwords.requests);
        let run = Box::new(move |in_time: bool| {
            // The request may be gone.
            let _ = answer.send(in_time.then(|| job(&requests)));
        });
        let job = Job { run, since: Instant::now(), _place: self.permit };
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
            Ok(job) => (job.run)(job.since.elapsed() <= MAX_WAIT),
            Err(_) => return,
        }
    }
}

/// A hash of nothing known: of the right shape and cost, so that checking against it takes as long.
fn dummy_hash(cost: u32) -> Result<String> {
    let mut random = [0_u8; 53];
    getrandom::fill(&mut random)
        .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    // The last letter of salt and hash hold fewer than six bits; `.` is zero in bcrypt's base64.
    let letters: String = (0..).zip(random).map(|(at, byte)| dummy_letter(at, byte)).collect();
    Ok(format!("$2b${cost:02}${letters}"))
}

fn dummy_letter(at: usize, byte: u8) -> char {
    if at == 21 || at == 52 { '.' } else { char::from(b'a' + byte % 26) }
}

/// Whether a password fits a stored hash, or the dummy, which none fits.
fn check(password: &str, stored: Option<&str>, dummy: &str, requests: &AtomicU64) -> bool {
    let usable = |hash: &&str| cost_of(hash).is_some_and(|cost| cost <= MAX_COST);
    if stored.is_some_and(|hash| !usable(&hash)) {
        tracing::error!("a stored password hash is not one of ours or costs too much");
    }
    // No password with a NUL or over the limit was ever set; bcrypt would stop or cut there.
    let possible = password.len() <= MAX_BYTES && !password.contains('\0');
    match stored.filter(usable) {
        Some(stored) if possible => verify(password, stored, requests),
        _ => {
            verify("", dummy, requests);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const COST: u32 = 4;

    #[test]
    fn only_the_whole_password_fits() {
        let requests = AtomicU64::new(0);
        let long = "x".repeat(MAX_BYTES);
        let stored = hash(&long, COST, &requests).unwrap();
        let dummy = dummy_hash(COST).unwrap();
        assert_eq!(cost_of(&dummy), Some(COST));
        assert!(!verify("x", &dummy, &requests));
        assert!(check(&long, Some(&stored), &dummy, &requests));
        assert!(!check(&format!("{long}x"), Some(&stored), &dummy, &requests));
        assert!(!check(&long[1..], Some(&stored), &dummy, &requests));

        let stored = hash("a", COST, &requests).unwrap();
        assert!(!check("a\0a", Some(&stored), &dummy, &requests));
        assert!(!check("dummy", None, &dummy, &requests));
    }

    #[test]
    fn an_absurd_cost_is_refused_at_once() {
        let requests = AtomicU64::new(0);
        let absurd = hash("a", COST, &requests).unwrap().replacen("$04$", "$31$", 1);
        let started = Instant::now();
        assert!(!check("a", Some(&absurd), &hash("d", COST, &requests).unwrap(), &requests));
        assert!(started.elapsed() < Duration::from_secs(60), "cost 31 would take days");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_request_that_leaves_loses_no_place() {
        let mut passwords = Passwords::start(COST, Arc::default()).unwrap();
        passwords.places = Arc::new(Semaphore::new(1));
        let place = passwords.reserve().unwrap();
        assert!(matches!(passwords.reserve(), Err(Error::Overloaded { .. })));
        drop(place.hash("password".into()));
        assert!(passwords.reserve().is_ok());
    }

    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_not_run() {
        let passwords = Passwords::start(COST, Arc::default()).unwrap();
        for (waited, expected) in [(MAX_WAIT / 2, true), (MAX_WAIT * 2, false)] {
            let (answer, answered) = oneshot::channel();
            let run = Box::new(move |in_time| answer.send(in_time).unwrap());
            let since = Instant::now().checked_sub(waited).unwrap();
            let place = passwords.reserve().unwrap().permit;
            passwords.jobs.send(Job { run, since, _place: place }).unwrap();
            assert_eq!(answered.await, Ok(expected), "{waited:?}");
        }
    }
}
