//! What is counted for `GET /metrics`.
//!
//! Each worker has counters of its own, so that counting never moves a cache line between cores.
//! They are added up when they are read. Labels are constants of ours: nothing here grows with what
//! clients send.

mod histogram;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use histogram::Histogram;

/// The upper bounds of latencies, in microseconds: from a read of memory to beyond any timeout that
/// a client is likely to have.
pub const LATENCY_BOUNDS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
/// The upper bounds of the number of requests in one statement.
pub const BATCH_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The counters of the process.
#[derive(Default)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    /// Connections beyond the limit.
    pub refused_connections: Counter,
    /// Wrong passwords, also current ones when a password is changed.
    pub failed_logins: Counter,
}

impl Metrics {
    pub fn add_worker(&self, worker: Arc<WorkerMetrics>) {
        self.lock().push(worker);
    }

    pub fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<WorkerMetrics>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of a worker. Names are values of labels.
pub struct WorkerMetrics {
    pub requests: RequestMetrics,
    pub connections: ConnectionMetrics,
    /// Each share of the pool by its name.
    pub shares: Vec<(&'static str, Arc<ShareMetrics>)>,
    pub database_connections: Arc<DatabaseConnectionMetrics>,
    pub shared_connection: Arc<SharedConnectionMetrics>,
    /// Each kind of batch by its name.
    pub batches: Vec<(&'static str, Arc<BatchMetrics>)>,
}

/// HTTP requests.
#[derive(Default)]
pub struct RequestMetrics {
    pub in_flight: Gauge,
    /// Answered as overloaded.
    pub refused: Counter,
    /// Few enough to be searched one by one, which is faster than hashing. Nobody but a scrape ever
    /// makes a request wait for the lock.
    routes: Mutex<Vec<RouteMetrics>>,
}

/// The requests of a route.
#[derive(Clone)]
pub struct RouteMetrics {
    pub label: &'static str,
    pub latency: Histogram,
    /// How many there were of each method and status.
    pub counts: Vec<((&'static str, u16), u64)>,
}

impl RequestMetrics {
    pub fn record(
        &self,
        label: &'static str,
        method: &'static str,
        status: u16,
        microseconds: u64,
    ) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.iter_mut().find(|route| route.label == label) {
            return route.record(method, status, microseconds);
        }
        let mut route =
            RouteMetrics { label, latency: Histogram::new(&LATENCY_BOUNDS), counts: Vec::new() };
        route.record(method, status, microseconds);
        routes.push(route);
    }

    pub fn routes(&self) -> Vec<RouteMetrics> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RouteMetrics {
    fn record(&mut self, method: &'static str, status: u16, microseconds: u64) {
        self.latency.record(microseconds);
        match self.counts.iter_mut().find(|(known, _)| *known == (method, status)) {
            Some((_, count)) => *count += 1,
            None => self.counts.push(((method, status), 1)),
        }
    }
}

/// Connections of clients.
#[derive(Default)]
pub struct ConnectionMetrics {
    pub accepted: Counter,
    pub open: Arc<Gauge>,
    /// Of these, in a TLS handshake.
    pub handshaking: Arc<Gauge>,
    /// Of these, from the head of a request to the last byte of its response.
    pub answering: Arc<Gauge>,
}

/// A share of the pool.
pub struct ShareMetrics {
    pub size: usize,
    pub in_use: Arc<Gauge>,
    pub waiting: Arc<Gauge>,
    /// How long was waited, in microseconds, where it was.
    pub waits: SharedHistogram,
}

impl ShareMetrics {
    pub fn new(size: usize) -> Self {
        let waits = SharedHistogram::new(&LATENCY_BOUNDS);
        Self { size, in_use: Arc::default(), waiting: Arc::default(), waits }
    }
}

/// Connections to the database, of a pool and the shared connection that belongs to it.
#[derive(Default)]
pub struct DatabaseConnectionMetrics {
    pub opened: Counter,
    pub failed: Counter,
    /// How often all were replaced.
    pub replaced: Counter,
}

/// A shared connection.
#[derive(Default)]
pub struct SharedConnectionMetrics {
    pub opened: Counter,
    pub in_flight: Arc<Gauge>,
}

/// Batches of one kind.
pub struct BatchMetrics {
    /// Requests in one statement.
    pub sizes: SharedHistogram,
    /// Requests that were queued.
    pub waits: Counter,
    pub waiting: Gauge,
    pub in_flight: Gauge,
}

impl Default for BatchMetrics {
    fn default() -> Self {
        let sizes = SharedHistogram::new(&BATCH_BOUNDS);
        let [waiting, in_flight] = Default::default();
        Self { sizes, waits: Counter::default(), waiting, in_flight }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are of something.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Counts one more until the result is dropped.
    pub fn count(self: &Arc<Self>) -> Counted {
        self.increment();
        Counted(Arc::clone(self))
    }

    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn set(&self, number: usize) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Gauge`] counts.
#[derive(Debug)]
pub struct Counted(Arc<Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement();
    }
}

/// A histogram that is recorded and read by different threads.
pub struct SharedHistogram(Mutex<Histogram>);

impl SharedHistogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self(Mutex::new(Histogram::new(bounds)))
    }

    pub fn record(&self, value: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(value);
    }

    pub fn get(&self) -> Histogram {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// As it is recorded.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
