//! What every request shares, and what the requests of one worker share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::task::TaskTracker;

use crate::auth::password::Passwords;
use crate::auth::token::Keys;
use crate::config::Secret;
use crate::db::Pool;
use crate::error::{Error, Result};

/// Database connections beside the pools: one for migrations at start, one for the command line.
const SPARE_CONNECTIONS: usize = 2;

/// What [`App::new`] needs to know.
pub struct Settings {
    pub database: tokio_postgres::Config,
    pub jwt_secret: Secret,
    pub token_ttl_seconds: u32,
    pub bcrypt_cost: u32,
    pub workers: usize,
    pub pool_size: usize,
}

/// Shared by all workers.
pub struct App {
    pub keys: Keys,
    pub passwords: Passwords,
    pub request_ids: RequestIds,
    database: tokio_postgres::Config,
    workers: usize,
    pool_size: usize,
}

impl App {
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(&settings.jwt_secret, settings.token_ttl_seconds),
            passwords: Passwords::start(settings.bcrypt_cost)?,
            request_ids: RequestIds::new()?,
            database: settings.database.clone(),
            workers: settings.workers,
            pool_size: settings.pool_size,
        })
    }

    pub fn workers(&self) -> usize {
        self.workers
    }
}

/// Connections that a process with these settings uses at most.
pub fn connections(workers: usize, pool_size: usize) -> usize {
    workers * pool_share(workers, pool_size) + SPARE_CONNECTIONS
}

fn pool_share(workers: usize, pool_size: usize) -> usize {
    pool_size.div_ceil(workers).max(1)
}

/// Shared by the requests of one worker thread.
pub struct Worker {
    pub app: Arc<App>,
    pub pool: Pool,
    /// What must end before the worker may.
    pub tasks: TaskTracker,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Result<Self> {
        let pool = Pool::new(&app.database, pool_share(app.workers, app.pool_size))?;
        Ok(Self { app, pool, tasks: TaskTracker::new() })
    }
}

/// The address a request came from.
pub type Peer = IpAddr;

/// New request ids: random for each process, counted within it.
pub struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Result<Self> {
        let process = getrandom::u64()
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        Ok(Self { process, count: AtomicU64::new(0) })
    }

    pub fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{count:016x}", self.process)
    }
}
