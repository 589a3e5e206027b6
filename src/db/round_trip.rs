//! How far away the database is, and so how many short statements should be under way at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a short statement keeps the database and the worker busy for, at most. While a statement is
/// under way for longer than that, it is the network that takes the time, and others fit beside it:
/// round trip over time of work is the bandwidth-delay product, counted in statements.
const WORK: Duration = Duration::from_micros(200);
/// Statements under way at most; further ones would only make the batches smaller.
const MAX_CONCURRENCY: usize = 16;
/// The shortest round trip is looked for in this time and the one before, so that a longer way
/// is noticed. As in BBR, the shortest one counts: what it takes longer is waiting, not distance.
const PERIOD: Duration = Duration::from_secs(300);

/// The shortest round trip of late.
pub struct RoundTrip {
    shortest: Mutex<Shortest>,
    concurrency: AtomicUsize,
}

struct Shortest {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self { shortest: Mutex::new(Shortest::unknown()), concurrency: AtomicUsize::new(1) }
    }
}

impl Shortest {
    fn unknown() -> Self {
        Self { since: Instant::now(), now: Duration::MAX, before: Duration::MAX }
    }
}

impl RoundTrip {
    /// How many statements should be under way: one when the database is near, several when it is far.
    pub fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// Begins anew, for a connection that may lead elsewhere.
    pub fn forget(&self) {
        *self.shortest.lock().unwrap_or_else(PoisonError::into_inner) = Shortest::unknown();
        self.concurrency.store(1, Ordering::Relaxed);
    }

    /// Notes how long a statement took from its sending to its answer.
    pub fn record(&self, elapsed: Duration) {
        let mut shortest = self.shortest.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = shortest.since.elapsed() >= PERIOD;
        if expired {
            *shortest = Shortest { before: shortest.now, ..Shortest::unknown() };
        }
        if expired || elapsed < shortest.now {
            shortest.now = elapsed;
            let round_trip = shortest.now.min(shortest.before);
            let fitting = usize::try_from(round_trip.as_nanos() / WORK.as_nanos());
            let fitting = fitting.unwrap_or(MAX_CONCURRENCY).clamp(1, MAX_CONCURRENCY);
            self.concurrency.store(fitting, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_far_database_has_several_statements_under_way_and_a_near_one_has_one() {
        let round_trip = RoundTrip::default();
        assert_eq!(round_trip.concurrency(), 1);
        for (microseconds, concurrency) in [(50_000, 16), (1_300, 6), (390, 1), (60, 1), (9_000, 1)]
        {
            round_trip.record(Duration::from_micros(microseconds));
            assert_eq!(round_trip.concurrency(), concurrency, "{microseconds} us");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_has_moved_away_is_noticed_after_two_periods() {
        let round_trip = RoundTrip::default();
        round_trip.record(Duration::from_micros(60));
        for concurrency in [1, 5] {
            advance(PERIOD).await;
            round_trip.record(Duration::from_millis(1));
            assert_eq!(round_trip.concurrency(), concurrency);
        }
    }
}
