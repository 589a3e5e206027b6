//! How far away the database is, and so how many short statements should be in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most time that a short statement occupies the database and the worker. If a round trip takes
/// longer, the rest is network latency, in which others can be in flight: round trip divided by
/// this time is the bandwidth-delay product, in statements.
const WORK: Duration = Duration::from_micros(200);
/// The most statements in flight; more would only make the batches smaller.
const MAX_CONCURRENCY: usize = 16;
/// The minimum is taken over this period and the one before, so that a longer path is noticed. The
/// minimum counts, as in BBR: anything above it is queueing, not distance.
const PERIOD: Duration = Duration::from_secs(300);

/// The minimum of the recent round trips.
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
    /// How many statements should be in flight: one when the database is near, several when it is
    /// far.
    pub fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// The time that no statement undercuts; zero while it is unknown.
    pub fn shortest(&self) -> Duration {
        let shortest = self.shortest.lock().unwrap_or_else(PoisonError::into_inner);
        let time = shortest.now.min(shortest.before);
        if time == Duration::MAX { Duration::ZERO } else { time }
    }

    /// Resets the measurement, for a new connection that may lead to another server.
    pub fn forget(&self) {
        *self.shortest.lock().unwrap_or_else(PoisonError::into_inner) = Shortest::unknown();
        self.concurrency.store(1, Ordering::Relaxed);
    }

    /// Records the time from sending a statement to its answer.
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
