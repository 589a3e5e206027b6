//! What is known of the database as a whole: whether it is away, and which connections are out of
//! date. The heartbeat of [`Readiness`](super::Readiness) says so to all workers, so that none of
//! them has to find out by a request that waits (a circuit breaker).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::DatabaseConnectionMetrics;

/// The shortest time between two replacements of all connections because of errors on them: new
/// ones may lead to the same server again.
pub const REPLACE_INTERVAL: Duration = Duration::from_secs(1);

/// Shared by all who use the database.
#[derive(Default)]
pub struct Pulse {
    /// It does not answer the heartbeat.
    away: AtomicBool,
    /// Connections have the generation in which they were opened. Those of an earlier one are
    /// replaced when there is a new one.
    latest: AtomicU64,
    /// Those of a generation before this one are not used any more.
    oldest_usable: AtomicU64,
    /// A connection found the server read-only.
    doubted: AtomicBool,
    replaced: Mutex<Option<Instant>>,
    /// What all connections have counted.
    pub connections: DatabaseConnectionMetrics,
}

impl Pulse {
    /// Whether requests should fail at once instead of asking the database.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub fn set_away(&self, away: bool) {
        if self.away.swap(away, Ordering::Relaxed) != away {
            tracing::warn!(away, "the database");
        }
    }

    /// The generation of a connection that is opened now.
    pub fn generation(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    pub fn is_latest(&self, generation: u64) -> bool {
        generation >= self.latest.load(Ordering::Relaxed)
    }

    pub fn is_usable(&self, generation: u64) -> bool {
        generation >= self.oldest_usable.load(Ordering::Relaxed)
    }

    /// The server that was read-only takes changes again.
    pub fn settle(&self) {
        self.doubted.store(false, Ordering::Relaxed);
    }

    /// The address may lead to another server by now: all connections are opened anew, and reads go
    /// on over the old ones until that is done.
    pub fn renew(&self) {
        self.doubted.store(false, Ordering::Relaxed);
        self.latest.fetch_add(1, Ordering::Relaxed);
        self.connections.replaced.increment();
        tracing::warn!("the connections to the database are opened anew");
    }

    /// No connection that was opened so far is used again.
    pub fn replace_all(&self) {
        let latest = self.latest.fetch_add(1, Ordering::Relaxed) + 1;
        self.oldest_usable.store(latest, Ordering::Relaxed);
        self.connections.replaced.increment();
        tracing::warn!("the connections to the database are replaced");
    }

    /// The same because of an error on a connection of the latest generation, at most once in
    /// [`REPLACE_INTERVAL`].
    pub fn replace_outdated(&self, generation: u64) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let recently = replaced.is_some_and(|at| at.elapsed() < REPLACE_INTERVAL);
        if !recently && self.is_latest(generation) {
            *replaced = Some(Instant::now());
            self.replace_all();
        }
    }

    /// A connection found the server read-only. The heartbeat finds out whether there is another by
    /// now: each worker would have to open connections for that.
    pub fn doubt(&self, generation: u64) {
        if self.is_latest(generation) {
            self.doubted.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_out_of_date_at_once_or_when_there_is_a_new_one() {
        let pulse = Pulse::default();
        let first = pulse.generation();
        pulse.renew();
        assert!(pulse.is_usable(first) && !pulse.is_latest(first));
        let second = pulse.generation();
        pulse.replace_outdated(first);
        assert!(pulse.is_latest(second), "an older connection says nothing about its successors");
        pulse.replace_outdated(second);
        assert!(!pulse.is_usable(second));
        let third = pulse.generation();
        pulse.replace_outdated(third);
        assert!(pulse.is_latest(third), "not again so soon");
        tokio::time::advance(REPLACE_INTERVAL).await;
        pulse.replace_outdated(third);
        assert!(!pulse.is_usable(third));
    }
}
