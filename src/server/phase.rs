//! How far the requests of a connection are, for its socket, which sees bytes alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use crate::metrics::Gauge;

/// What the socket needs to know about the requests on it.
#[derive(Debug)]
pub struct Phase {
    pub answering: AtomicBool,
    pub begun: AtomicU64,
    /// Whether hyper's buffer has grown.
    pub large_head: AtomicBool,
    /// Whether there was no room for a large head.
    pub refused: AtomicBool,
    pub opened: Instant,
    /// When the last response ended, in milliseconds after `opened`.
    pub ended: AtomicU64,
    /// The connections that are answering.
    connections: Arc<Gauge>,
}

impl Phase {
    pub fn new(connections: Arc<Gauge>) -> Self {
        Self {
            connections,
            answering: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            large_head: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            opened: Instant::now(),
            ended: AtomicU64::new(0),
        }
    }

    /// The head of a request is complete.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
        self.connections.increment();
    }

    /// Whether a head was so large that hyper's buffer must not be kept for another request.
    pub fn had_large_head(&self) -> bool {
        self.large_head.load(Ordering::Relaxed)
    }

    /// Whether the connection failed because there was no room for a large head, with every
    /// response before it written.
    pub fn refused_large_head(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The response is written, or abandoned.
    pub fn end(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ended.store(elapsed, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
        self.connections.decrement();
    }
}
