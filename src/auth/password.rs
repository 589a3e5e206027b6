//! Passwords: bcrypt on threads of its own, behind a queue that is bounded by time, so that a flood
//! of logins can neither slow a read nor pile up.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bcrypt::HashParts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Result};

/// How long a place in the queue may take to be served.
const QUEUE_TIME: Duration = Duration::from_secs(5);
/// How much less the threads count than those that serve requests (`setpriority`, nice value).
const NICENESS: i32 = 19;
/// How many seconds a client that finds no place is told to wait at least, and how many different
/// waits there are: clients that all came back at once would be a burst of their own.
const RETRY_AFTER: u32 = 5;
const RETRY_SPREAD: u32 = 26;
/// A stored hash that costs more is refused: cost 31 would take days.
const MAX_COST: u32 = 14;
/// bcrypt silently cuts what is longer.
const MAX_BYTES: usize = 71;
/// What the time of a hash is taken with at the start, at most the cost in use.
const CALIBRATION_COST: u32 = 4;

/// The threads that hash and their queue.
pub struct Passwords {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    refused: AtomicU32,
    cost: u32,
    /// A hash that no password matches, for accounts that do not exist.
    dummy: Arc<str>,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
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
    /// Starts half as many threads as there are cores, at least one.
    pub fn start(cost: u32) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = (cores / 2).max(1);
        // A cheap hash tells the time of a dear one, which doubles with every step of the cost.
        let started = Instant::now();
        hash(b"how long does this take", CALIBRATION_COST)?;
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
        Ok(Self { jobs, places, refused, cost, dummy: dummy.into() })
    }

    /// A place in the queue, or [`Error::Overloaded`] at once. To be taken before anything that a
    /// flood could make expensive.
    pub fn reserve(&self) -> Result<Place<'_>> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let refused = self.refused.fetch_add(1, Ordering::Relaxed);
            Error::Overloaded { retry_after: RETRY_AFTER + refused % RETRY_SPREAD }
        })?;
        Ok(Place { passwords: self, permit })
    }
}

impl Place<'_> {
    /// Hashes a new password.
    pub async fn hash(self, password: String) -> Result<String> {
        let cost = self.passwords.cost;
        self.run(move || hash(password.as_bytes(), cost)).await?
    }

    /// Whether a password fits a stored hash; without one it takes as long and does not.
    pub async fn verify(self, password: String, stored: Option<String>) -> Result<Verdict> {
        let dummy = Arc::clone(&self.passwords.dummy);
        let cost = self.passwords.cost;
        self.run(move || {
            if !verify(&password, stored.as_deref(), &dummy) {
                return Ok(Verdict::Wrong);
            }
            let outdated = stored.is_some_and(|stored| cost_of(&stored) < Some(cost));
            let better_hash = if outdated { Some(hash(password.as_bytes(), cost)?) } else { None };
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
        self.run(move || {
            let right = verify(&current, Some(&stored), &dummy);
            right.then(|| hash(new.as_bytes(), cost)).transpose()
        })
        .await?
    }

    async fn run<T: Send + 'static>(self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move || {
            // The request may be gone.
            let _ = answer.send(job());
        });
        self.passwords
            .jobs
            .send(Job { run, _place: self.permit })
            .map_err(|_| Error::internal("the password threads have ended"))?;
        answered.await.map_err(|_| Error::internal("a password thread has failed"))
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    // Where the system does not allow it, hashing is merely as important as the rest.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => (job.run)(),
            Err(_) => return,
        }
    }
}

fn hash(password: &[u8], cost: u32) -> Result<String> {
    bcrypt::non_truncating_hash(password, cost)
        .map_err(|error| Error::internal(format!("hashing: {error}")))
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

/// None if the text is no bcrypt hash.
fn cost_of(hash: &str) -> Option<u32> {
    HashParts::from_str(hash).ok().map(|hash| hash.get_cost())
}

fn verify(password: &str, stored: Option<&str>, dummy: &str) -> bool {
    let usable = |hash: &&str| cost_of(hash).is_some_and(|cost| cost <= MAX_COST);
    if stored.is_some_and(|hash| !usable(&hash)) {
        tracing::error!("a stored password hash is not one of ours or costs too much");
    }
    // No password with a NUL or over the limit was ever set; bcrypt would stop or cut there.
    let possible = password.len() <= MAX_BYTES && !password.contains('\0');
    match stored.filter(usable) {
        Some(stored) if possible => {
            bcrypt::non_truncating_verify(password, stored).unwrap_or(false)
        }
        _ => {
            let _ = bcrypt::non_truncating_verify("", dummy);
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
        let long = "x".repeat(MAX_BYTES);
        let stored = hash(long.as_bytes(), COST).unwrap();
        let dummy = dummy_hash(COST).unwrap();
        assert_eq!(cost_of(&dummy), Some(COST));
        assert!(bcrypt::non_truncating_verify("x", &dummy).is_ok_and(|right| !right));
        assert!(verify(&long, Some(&stored), &dummy));
        assert!(!verify(&format!("{long}x"), Some(&stored), &dummy));
        assert!(!verify(&long[1..], Some(&stored), &dummy));

        let stored = hash(b"a", COST).unwrap();
        assert!(!verify("a\0a", Some(&stored), &dummy));
        assert!(!verify("dummy", None, &dummy));
    }

    #[test]
    fn an_absurd_cost_is_refused_at_once() {
        let absurd = hash(b"a", COST).unwrap().replacen("$04$", "$31$", 1);
        let started = Instant::now();
        assert!(!verify("a", Some(&absurd), &hash(b"d", COST).unwrap()));
        assert!(started.elapsed() < Duration::from_secs(60), "cost 31 would take days");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_request_that_leaves_loses_no_place() {
        let mut passwords = Passwords::start(COST).unwrap();
        passwords.places = Arc::new(Semaphore::new(1));
        let place = passwords.reserve().unwrap();
        assert!(matches!(passwords.reserve(), Err(Error::Overloaded { .. })));
        drop(place.hash("password".into()));
        assert!(passwords.reserve().is_ok());
    }
}
