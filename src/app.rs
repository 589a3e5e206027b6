//! What all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::header::HeaderValue;
use tokio::sync::SetOnce;

use crate::auth::login_locks::LoginLocks;
use crate::auth::password::Passwords;
use crate::auth::refresh::RefreshKeys;
use crate::auth::session::EndedSessions;
use crate::auth::token::Keys;
use crate::config::{Config, MAX_TOKEN_TTL};
use crate::db::connection::{Manager, Purpose};
use crate::db::{ConnectOptions, Imports, Pool, Pulse, Readiness, SharedConnection};
use crate::error::{Error, Result};
use crate::http::budget::Budget;
use crate::metrics::Metrics;
use crate::openapi;
use crate::secret::Secret;

/// The bytes of all large heads, in the whole process: 32 of 128 KiB, and 8 of one network.
const LARGE_HEADS: usize = 4 << 20;

/// Imports at once, in the whole process. Each has a database connection of its own, and holds 768
/// KiB of the budget.
pub const IMPORTS: usize = 4;

/// Created once for the process.
pub struct App {
    pub keys: Keys,
    pub refresh_keys: RefreshKeys,
    pub ended_sessions: EndedSessions,
    pub passwords: Passwords,
    pub login_locks: LoginLocks,
    pub request_ids: RequestIds,
    pub readiness: Readiness,
    pub metrics: Metrics,
    pub imports: Imports,
    pub pulse: Arc<Pulse>,
    /// The budget of the bytes held for clients.
    pub budget: Arc<Budget>,
    /// The budget of heads that exceed hyper's initial buffer. It is not that of bodies, because
    /// what has no token yet must not take from those who have one.
    pub large_heads: Arc<Budget>,
    pub config: Config,
    /// Set once the database has the schema that the statements need.
    pub schema_is_ready: SetOnce<()>,
    database: ConnectOptions,
    stopping: AtomicBool,
}

impl App {
    /// Until [`use_database`](Self::use_database), the database is not queried, and requests that
    /// need it are refused as unavailable. `secret` signs tokens; with an embedded database, it and
    /// the connect options are the database's and not those of the settings.
    pub fn new(config: Config, database: ConnectOptions, secret: &Secret) -> Result<Self> {
        let previous = config.jwt_secret_previous.as_ref();
        let pulse = Arc::<Pulse>::default();
        if config.docs {
            // Made now, and not while a worker's requests wait for it.
            openapi::document();
        }
        Ok(Self {
            keys: Keys::new(secret, previous, config.token_ttl_seconds)?,
            refresh_keys: RefreshKeys::new(secret, previous),
            ended_sessions: EndedSessions::new(MAX_TOKEN_TTL),
            passwords: Passwords::start(config.bcrypt_cost)?,
            login_locks: LoginLocks::default(),
            request_ids: RequestIds::new()?,
            readiness: Readiness::new(&database, Arc::clone(&pulse)),
            pulse,
            metrics: Metrics::default(),
            imports: Imports::start(database.clone(), IMPORTS)?,
            budget: Arc::default(),
            large_heads: Arc::new(Budget::new(LARGE_HEADS)),
            config,
            schema_is_ready: SetOnce::new(),
            database,
            stopping: AtomicBool::new(false),
        })
    }

    /// From here on the instance is not ready, and closes connections after each response. It still
    /// serves requests.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The database has the schema: requests may use it from here on.
    pub fn use_database(&self) {
        // It may be set already.
        let _ = self.schema_is_ready.set(());
    }

    /// A pool for a worker, or for the background tasks.
    pub fn pool(&self, purpose: Purpose, size: usize) -> Result<Pool> {
        Pool::with(self.manager(purpose), size)
    }

    /// A connection for a worker's short reads, or for a background task.
    pub fn shared_connection(&self, purpose: Purpose) -> SharedConnection {
        SharedConnection::new(self.manager(purpose))
    }

    fn manager(&self, purpose: Purpose) -> Manager {
        Manager::new(&self.database, purpose, Arc::clone(&self.pulse))
    }
}

/// Generates ids for requests without one: random for each process, counted within it.
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

    /// The request's `own` id if it has one, or else a new one.
    pub fn next(&self, own: Option<&HeaderValue>) -> HeaderValue {
        let new = || hexadecimal(self.process, self.count.fetch_add(1, Ordering::Relaxed));
        own.cloned().unwrap_or_else(new)
    }
}

/// 32 hexadecimal digits.
fn hexadecimal(high: u64, low: u64) -> HeaderValue {
    let number = u128::from(high) << 64 | u128::from(low);
    let digits: [u8; 32] = std::array::from_fn(|at| {
        let digit = number >> (124 - 4 * at) & 0xF;
        b"0123456789abcdef".get(digit as usize).copied().unwrap_or_default()
    });
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
