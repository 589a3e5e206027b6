//! What every request shares, and what the requests of one worker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::HeaderValue;
use tokio::sync::SetOnce;
use tokio_util::task::TaskTracker;

use crate::auth::cache::TokenCache;
use crate::auth::password::Passwords;
use crate::auth::refresh::RefreshKeys;
use crate::auth::session::EndedSessions;
use crate::auth::throttle::Turns;
use crate::auth::token::Keys;
use crate::config::{Config, MAX_TOKEN_TTL};
use crate::db::{Address, Inserts, Lane, Pool, Readiness, Sql};
use crate::error::{Error, Result};
use crate::models::rules::Value;
use crate::secret::Secret;

/// Database connections of what runs beside the requests: one sweeps, one watches the sessions.
const BACKGROUND_CONNECTIONS: usize = 2;
/// The database connection of [`Readiness`].
const READINESS_CONNECTIONS: usize = 1;
/// Database connections left over: one for migrations at start, one for the command line.
const SPARE_CONNECTIONS: usize = 2;

/// Shared by all workers.
pub struct App {
    pub keys: Keys,
    pub refresh_keys: RefreshKeys,
    pub ended_sessions: EndedSessions,
    pub passwords: Passwords,
    pub login_turns: Turns,
    pub request_ids: RequestIds,
    pub readiness: Readiness,
    pub config: Config,
    /// Set once the database has the schema that the statements are made for.
    pub schema_is_ready: SetOnce<()>,
    database: Address,
}

impl App {
    /// Until [`use_database`](Self::use_database) nothing is asked of the database, and what needs it is
    /// unavailable. `secret` signs tokens; it and the database may be others than those that the settings name,
    /// which leave both to the embedded database.
    pub fn new(config: Config, database: Address, secret: &Secret) -> Result<Self> {
        let previous = config.jwt_secret_previous.as_ref();
        let requests = Arc::default();
        Ok(Self {
            keys: Keys::new(secret, previous, config.token_ttl_seconds)?,
            refresh_keys: RefreshKeys::new(secret, previous),
            ended_sessions: EndedSessions::new(MAX_TOKEN_TTL),
            passwords: Passwords::start(config.bcrypt_cost, Arc::clone(&requests))?,
            login_turns: Turns::default(),
            request_ids: RequestIds::new(requests)?,
            readiness: Readiness::new(&database),
            config,
            schema_is_ready: SetOnce::new(),
            database,
        })
    }

    /// The database has the schema: requests may use it from now on.
    pub fn use_database(&self) {
        // It may have been said before.
        let _ = self.schema_is_ready.set(());
    }

    /// A connection of its own for what sweeps beside the requests.
    pub fn background_pool(&self) -> Result<Pool> {
        Pool::new(&self.database, 1)
    }
}

/// Connections that a process with these settings uses at most.
pub fn connections(workers: usize, pool_size: usize) -> usize {
    workers * (pool_share(workers, pool_size) + 1)
        + BACKGROUND_CONNECTIONS
        + READINESS_CONNECTIONS
        + SPARE_CONNECTIONS
}

fn pool_share(workers: usize, pool_size: usize) -> usize {
    pool_size.div_ceil(workers).max(1)
}

/// Shared by the requests of one worker thread.
pub struct Worker {
    pub app: Arc<App>,
    /// For writes, searches and long lists.
    pub pool: Pool,
    /// For short reads.
    pub lane: Lane,
    pub new_patients: Inserts<Value<'static>>,
    pub tokens: TokenCache,
    /// What must end before the worker may.
    pub tasks: TaskTracker,
}

impl Worker {
    pub fn new(app: Arc<App>) -> Result<Self> {
        let Config { workers, pool_size, .. } = app.config;
        let pool = Pool::new(&app.database, pool_share(workers, pool_size))?;
        Ok(Self {
            app,
            lane: Lane::new(pool.clone()),
            new_patients: Inserts::new(pool.clone(), Sql::PatientsCreate, Sql::PatientsCreateMany),
            pool,
            tokens: TokenCache::default(),
            tasks: TaskTracker::new(),
        })
    }
}

/// Counts requests, and names those that bring no id: random for each process, counted within it.
pub struct RequestIds {
    process: u64,
    count: Arc<AtomicU64>,
}

impl RequestIds {
    /// `count` rises with every request.
    fn new(count: Arc<AtomicU64>) -> Result<Self> {
        let process = getrandom::u64()
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        Ok(Self { process, count })
    }

    /// Counts a request. Its id is `own`, if it brings one, or else a new one.
    pub fn next(&self, own: Option<&HeaderValue>) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        own.cloned().unwrap_or_else(|| hexadecimal(self.process, count))
    }
}

/// 32 digits.
fn hexadecimal(high: u64, low: u64) -> HeaderValue {
    let number = u128::from(high) << 64 | u128::from(low);
    let digits: [u8; 32] = std::array::from_fn(|at| {
        let digit = number >> (124 - 4 * at) & 0xF;
        b"0123456789abcdef".get(digit as usize).copied().unwrap_or_default()
    });
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
